"""What messages of a report are told apart by."""

from __future__ import annotations

import pytest

from mailfleet.mail.dmarc_report import ReportRow, Signature, SpfSeen
from mailfleet.policy.dmarc_marks import MAX_WHY, Marks, marks_of

OURS, THEIRS = Signature("mail.shop.example", "mf1", "pass"), Signature("a.crm.example", "k", "pass")
BOUNCE, LIST = SpfSeen("bounce.shop.example", "mfrom", "pass"), SpfSeen("out.list.example", "mfrom", "pass")


@pytest.mark.parametrize(
    ("dkim", "spf", "signatures", "spf_seen", "found"),
    [
        (True, True, [OURS], [BOUNCE], Marks("mf1", "", "")),
        (True, False, [THEIRS, OURS], [LIST], Marks("mf1", "crm.example", "")),
        (True, False, [OURS], [LIST], Marks("mf1", "list.example", "")),
        (True, False, [OURS], [LIST._replace(scope="helo")], Marks("mf1", "", "")),
        (False, True, [OURS], [BOUNCE], Marks("", "", "")),  # adkim=s
        (False, False, [], [], Marks("", "", "no DKIM signature")),
        (
            False,
            False,
            [OURS._replace(result="fail"), THEIRS],
            [BOUNCE._replace(result="softfail")],
            Marks(
                "",
                "crm.example",
                "DKIM mf1 of mail.shop.example: fail; DKIM k of a.crm.example: pass; SPF of bounce.shop.example: softfail",
            ),
        ),
        (
            False,
            False,
            [Signature("", "", "")],
            [SpfSeen("", "mfrom", "none")],
            Marks("", "", "DKIM ? of ?: ?; SPF of ?: none"),
        ),
    ],
)
def test_marks(dkim: bool, spf: bool, signatures: list[Signature], spf_seen: list[SpfSeen], found: Marks) -> None:
    row = ReportRow("192.0.2.1", 1, "none", dkim, spf, "news.shop.example", (), tuple(signatures), tuple(spf_seen))
    assert marks_of(row) == found


def test_what_a_reporter_says_at_length_is_cut() -> None:
    row = ReportRow(
        "192.0.2.1", 1, "none", False, False, "shop.example", (), (Signature("a.b", "s" * 200, "fail"),) * 9
    )
    assert len(marks_of(row).why) == MAX_WHY
