"""The words of the nightly mail: what opens it, what it says of each thing, and what strangers' records can do to it."""

from __future__ import annotations

from mailfleet.policy.digest import WIDTH, CertificateNews, Digest, Finding, KeyNews, html_text, subject, text
from mailfleet.policy.dns_checks import Check

DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS + 6 * 3_600_000
KEY = "v=DKIM1; k=rsa; p=" + "A" * 392
GONE = Check("dkim:mf1", "failed", "nothing", KEY, "there is no such record: " + "mail fails " * 12, "publish it")
RIGHT = Check("dmarc", "ok", "v=DMARC1; p=none", "v=DMARC1; p=none", "receivers report and do nothing", "go on")


def digest(**values: object) -> Digest:
    return Digest("mta.s.test", NOW_MS - DAY_MS, NOW_MS, **values)  # type: ignore[arg-type]  # names are the test's care


def test_all_is_well() -> None:
    assert digest().empty
    assert digest(advice=(Finding("s.test", GONE, NOW_MS),)).empty
    assert "All is well at mta.s.test, and nothing has changed since 2024-10-03 06:00" in text(digest())


def test_the_subject_says_whether_to_open_it_now() -> None:
    found = digest(
        changed=(Finding("s.test", GONE, NOW_MS, ("ok",)), Finding("s.test", RIGHT, NOW_MS, ("failed",))),
        wrong=(Finding("t.test", GONE, 0),),
        keys=(KeyNews("s.test", "mf2", "active", NOW_MS),),
    )
    assert subject(found) == "Mailfleet at mta.s.test: 2 checks fail, 1 right again, 1 key on its way"
    assert not found.empty


def test_each_thing_says_what_it_was_and_what_to_do() -> None:
    found = digest(
        changed=(
            Finding("s.test", RIGHT, NOW_MS, ("ok", "failed", "unknown")),
            Finding("s.test", GONE, NOW_MS, ("ok",)),
        ),
        wrong=(Finding("t.test", GONE, NOW_MS - DAY_MS),),
        certificates=(CertificateNews("mta.s.test", "expiring", "2024-10-05T01:02:03.000Z", "no answer"),),
        keys=(
            KeyNews("s.test", "mf1", "old", NOW_MS, NOW_MS + 8 * DAY_MS),
            KeyNews("s.test", "mf3", "next", NOW_MS - DAY_MS),
        ),
    )
    said = text(found)
    assert "was ok, now failed since 2024-10-04 06:00 UTC" in said
    assert "ok again since 2024-10-04 06:00 UTC; in between failed, unknown" in said
    assert "\n  failed since 2024-10-03 06:00 UTC" in said
    assert said.index("was ok, now failed") < said.index("ok again"), "the worst first"
    assert "ends 2024-10-05 01:02 UTC" in said
    assert "mailfleet certificate renew mta.s.test" in said
    assert "until 2024-10-12 06:00" in said
    assert "mailfleet domain plan s.test" in said
    copied = f"  expected:  {KEY}"
    assert said.count(copied) == 2, "a record to copy stands whole"
    prose = [line for line in said.splitlines() if not line.startswith(("  expected: ", "  next step: "))]
    assert max(map(len, prose)) <= WIDTH


def test_records_of_strangers_are_only_shown() -> None:
    nasty = Check("dmarc", "failed", '<img src="https://x.test">\x1b[2J\n\rX' + "y" * 5000, "a&b", "<b>", "next")
    found = digest(wrong=(Finding("s.test", nasty, 0),))
    assert "<img" not in html_text(found)
    assert "<b>&lt;b&gt;" not in html_text(found)
    assert not {"\x1b", "\r"} & set(text(found))
    assert len(text(found)) < 2000
