"""Who may make certificates by CAA records, and on which terms (RFC 8659, RFC 8657)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.policy import host_checks
from mailfleet.policy.caa import Caa, Granted, Issuer, issuers, lets_in, shuts_out, value

ACCOUNT = "https://ca.test/acct/7"
OURS = Issuer("ca.test", "https://ca.test/directory", ACCOUNT, ("dns-01",))
NEW = OURS._replace(account="")


def test_issuers_are_read_with_their_terms() -> None:
    assert issuers(
        [
            '0 issue "a.test;x = y ; validation-methods=z"',
            '128 Issue "B.test"',
            '0 issuewild "c.test"',
            '0 issue ";"',
            '0 issue "d.test; %%%%%"',
            '0 issue "d.test; a=b c"',
            "0 issue",
        ]
    ) == [
        Granted("a.test", {"x": "y", "validation-methods": "z"}),
        Granted("b.test", {}),
        Granted("", {}),
        Granted("", {}),  # malformed: nobody (RFC 8659 4.2)
        Granted("", {}),
    ]


@pytest.mark.parametrize(
    ("records", "said", "record"),
    [
        ((), None, '0 issue "ca.test"'),
        (('0 issue "ca.test"',), None, '0 issue "ca.test"'),
        (('0 issue "CA.test; AccountURI=https://ca.test/acct/7; validationmethods=http-01,dns-01"',), None, ""),
        (
            ('0 issue "ca.test; accounturi=https://ca.test/acct/8"',),
            "only for the account https://ca.test/acct/8",
            '0 issue "ca.test; accounturi=https://ca.test/acct/7"',
        ),
        (
            ('0 issue "ca.test; validationmethods=http-01,tls-alpn-01"', '0 issue "other.test"'),
            "only by http-01,tls-alpn-01",
            '0 issue "ca.test; validationmethods=dns-01"',
        ),
        (('0 issue "ca.test; accounturi=https://ca.test/acct/8"', '0 issue "ca.test"'), None, ""),
        (('0 issue "ca.test"', '128 tbs "unknown"'), 'marked critical and unknown: 128 tbs "unknown"', ""),
        (('0 issue "ca.test"', '0 tbs "unknown"', '128 issuemail "x.test"'), None, ""),
    ],
)
def test_terms(records: tuple[str, ...], said: str | None, record: str) -> None:
    assert lets_in(records, OURS) == (said is None)
    caa = Caa(host="mta-sts.shop.test", seen_at="shop.test", seen=(("ns", records),) if records else ())
    check = host_checks.caa([caa], OURS, ["shop.test"])
    assert check.state == ("ok" if said is None else "failed")
    if said is not None:
        assert any(said in one for one in shuts_out(records, OURS))
        assert said in check.meaning
        assert check.next_step
    if record:
        assert value(OURS, records) == record
        assert lets_in([*records, record], OURS)


def test_an_account_that_is_not_there_yet_cannot_be_named() -> None:
    locked = ['0 issue "ca.test; accounturi=https://ca.test/acct/8"']
    assert value(NEW, locked) == ""
    assert not lets_in(locked, NEW)
    caa = Caa(host="h.shop.test", seen_at="shop.test", seen=(("ns", tuple(locked)),))
    assert "no account there yet" in host_checks.caa([caa], NEW, ["shop.test"]).next_step


@given(st.lists(st.text(st.characters(max_codepoint=0x7F), max_size=40)), st.sampled_from([OURS, NEW]))
def test_what_lets_us_in_does(texts: list[str], ours: Issuer) -> None:
    records = [f'0 issue "{text}"' for text in texts] + [f'0 issue "ca.test;{text}"' for text in texts]
    record = value(ours, records)
    assert record == "" or lets_in([*records, record], ours)
    assert lets_in(records, ours) or bool(issuers(records))
