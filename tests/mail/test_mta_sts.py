"""MTA-STS by the examples of RFC 8461 and by laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.mail.mta_sts import MAX_AGE_S, MtaStsSyntaxError, StsPolicy, parse_policy, policy_id
from mailfleet.policy.transport import secured, stricter

# RFC 8461 3.2
EXAMPLE = "\r\n".join(
    [
        "version: STSv1", "mode: enforce", "mx: mail.example.com", "mx: *.example.net", "mx: backupmx.example.com",
        "max_age: 604800", "",
    ]
)  # fmt: skip


def test_the_examples() -> None:
    assert policy_id(["unrelated", "v=STSv1; id=20160831085700Z;"]) == "20160831085700Z"  # RFC 8461 3.1
    policy = parse_policy(EXAMPLE)
    assert policy == StsPolicy("enforce", ("mail.example.com", "*.example.net", "backupmx.example.com"), 604_800)
    assert str(policy) == EXAMPLE


@pytest.mark.parametrize(
    "records",
    [
        [],
        ["v=STSv1; id=1", "v=STSv1; id=2"],
        ["v=STSv1"],
        ["v=STSv1; id="],
        ["v=STSv1; id=a-b"],
        ["v=STSv2; id=1"],
        ["v=STSv1; id=1; x"],
    ],
)
def test_no_policy(records: list[str]) -> None:
    assert policy_id(records) is None


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mail.example.com", True),
        ("MAIL.Example.com.", True),
        ("a.example.net", True),
        ("a.b.example.net", False),  # RFC 8461 4.1: one label
        ("example.net", False),
        ("mail.example.org", False),
    ],
)
def test_which_hosts_are_allowed(host: str, allowed: bool) -> None:
    assert parse_policy(EXAMPLE).allows(host) is allowed


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("STSv1", "STSv2", "version is not"),
        ("mode: enforce", "mode: maybe", "is none of enforce"),
        ("max_age: 604800", "max_age: soon", "no number of seconds"),
        ("max_age: 604800", "", "no number of seconds"),
        ("mx: mail.example.com", "mx: not a host", "is no host name"),
        ("mode: enforce", "<html>", "is no field"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, wrong: str) -> None:
    with pytest.raises(MtaStsSyntaxError, match=wrong):
        parse_policy(EXAMPLE.replace(old, new))


def test_where_mail_may_go() -> None:
    hosts = ((10, "mail.example.com"), (20, "mx.elsewhere.test"))
    policy = parse_policy(EXAMPLE)
    assert secured("example.com", hosts, policy, "") == (((10, "mail.example.com"),), "verified", "")
    testing = StsPolicy("testing", ("mail.example.com",), 60)
    assert secured("example.com", hosts, testing, "required") == (hosts, "required", "")
    assert secured("example.com", hosts, testing, "") == (hosts, "testing", "")
    assert secured("example.com", hosts, StsPolicy("none", (), 60), "") == (hosts, "", "")
    assert secured("example.com", hosts, None, "") == (hosts, "", "")
    nowhere = secured("example.com", hosts[1:], policy, "")
    assert (nowhere.hosts, nowhere.tls) == ((), "verified")
    assert "allows none of its mail hosts (mx.elsewhere.test)" in nowhere.problem
    assert stricter("required", "verified") == "verified"
    assert stricter("required", "") == "required"
    assert stricter("testing", "required") == "required"


@given(st.text(max_size=200))
def test_garbage_is_an_error_and_never_a_crash(text: str) -> None:
    policy_id([text, f"v=STSv1;{text}"])
    for whole in (text, f"version: STSv1\n{text}"):
        try:
            parse_policy(whole)
        except MtaStsSyntaxError:
            continue


MX_NAMES = st.from_regex(r"(\*\.)?[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,2}", fullmatch=True)
POLICIES = st.builds(
    StsPolicy,
    st.sampled_from(["enforce", "testing", "none"]),
    st.lists(MX_NAMES, min_size=1, max_size=3).map(tuple),
    st.integers(0, MAX_AGE_S),
)


@given(POLICIES)
def test_a_policy_and_its_number_can_be_read_again(policy: StsPolicy) -> None:
    assert parse_policy(str(policy)) == policy
    assert policy_id([f"v=STSv1; id={policy.number}"]) == policy.number


@given(POLICIES, POLICIES)
def test_another_policy_has_another_number(one: StsPolicy, other: StsPolicy) -> None:
    assert (one.number == other.number) == (one == other)


def test_the_number_of_a_policy_stays() -> None:
    """Who publishes it before and after an update of the software publishes the same."""
    assert StsPolicy("enforce", ("mx.shop.test",), 604_800).number == "6cefaa546a5b90f5ef9c"
