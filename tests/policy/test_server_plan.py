"""What the DNS must hold for the install itself: by hand, and by laws."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.mail.spf import check_host
from mailfleet.policy.caa import NOBODY, Caa, Issuer
from mailfleet.policy.dns_plan import Wanted
from mailfleet.policy.server_plan import Sender, ServerExisting, ServerFacts, plan
from tests.mail.dns_answers import run

KEY, NEXT, OTHER = "aa" * 32, "bb" * 32, "cc" * 32
FACTS = ServerFacts(
    "mail.shop.test",
    (
        Sender("s1", "192.0.2.1", "mail.shop.test"),
        Sender("s2", "2001:db8::1", "out.shop.test"),
        Sender("s3", "192.0.2.1", "out.shop.test"),
    ),
    Issuer("ca.test"),
    (25, 587),
    (KEY,),
)
SIGNED = ServerExisting(trust="secure")


def of(kind: str, facts: ServerFacts = FACTS, existing: ServerExisting = SIGNED) -> list[tuple[str, str]]:
    return [(one.name, one.value) for one in plan(facts, existing).records if one.type == kind]


def test_every_record_is_there() -> None:
    assert of("A") == [("mail.shop.test", "192.0.2.1"), ("out.shop.test", "192.0.2.1")]
    assert of("AAAA") == [("out.shop.test", "2001:db8::1")]
    assert of("PTR") == [
        ("1.2.0.192.in-addr.arpa", "mail.shop.test."),
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "out.shop.test."),
    ]
    assert of("TXT") == [("mail.shop.test", "v=spf1 a -all"), ("out.shop.test", "v=spf1 a -all")]
    assert of("TLSA") == [(f"_{port}._tcp.mail.shop.test", f"3 1 1 {KEY}") for port in (25, 587)]
    assert plan(FACTS, SIGNED).notes == []


def test_what_is_not_known_is_said() -> None:
    notes = plan(replace(FACTS, senders=(Sender("default", "", "mail.shop.test"),)), SIGNED).notes
    assert "no public address of default is known" in notes[0]
    notes = plan(replace(FACTS, senders=FACTS.senders[1:]), SIGNED).notes
    assert notes == ["no source is called mail.shop.test: publish the address of this server there yourself"]
    bare = plan(replace(FACTS, hostname="server"), SIGNED)
    assert (bare.records, bare.notes) == ([], ["server is no full name: set server.hostname"])


@pytest.mark.parametrize(
    ("trust", "why"),
    [
        ("", "name a resolver that validates DNSSEC (dns.validator)"),
        ("insecure", "the zone of mail.shop.test is not signed"),
        ("bogus", "DNSSEC of the zone of mail.shop.test is broken"),
        ("unknown", "gives no answer"),
    ],
)
def test_no_key_is_named_where_nobody_may_believe_it(trust: str, why: str) -> None:
    made = plan(FACTS, ServerExisting(trust=trust))
    assert not [one for one in made.records if one.type == "TLSA"]
    assert any(why in one for one in made.notes), made.notes


def test_a_resolver_that_fails_takes_no_record_out() -> None:
    ours = {25: frozenset({f"3 1 1 {KEY}"}), 587: frozenset[str]()}
    for trust in ("bogus", "unknown"):
        assert of("TLSA", existing=ServerExisting(trust=trust, ours=ours)) == of("TLSA")
    assert of("TLSA", existing=ServerExisting(trust="insecure", ours=ours)) == []


def test_a_port_that_shows_another_key_gets_no_record() -> None:
    made = plan(FACTS, replace(SIGNED, shown={25: OTHER, 587: KEY}))
    assert [one.name for one in made.records if one.type == "TLSA"] == ["_587._tcp.mail.shop.test"]
    assert made.notes == ["no TLSA record for port 25: another certificate than ours is shown there"]


def test_a_port_that_still_shows_the_key_before_keeps_its_records() -> None:
    existing = replace(SIGNED, shown={25: OTHER}, ours={25: frozenset({f"3 1 1 {OTHER}"})})
    assert of("TLSA", existing=existing) == of("TLSA")


@given(
    st.lists(st.sampled_from([KEY, NEXT, OTHER]), unique=True, max_size=2),
    st.dictionaries(st.sampled_from([25, 587]), st.sampled_from([KEY, NEXT, OTHER, ""])),
    st.sampled_from(["secure", "insecure", "bogus", "unknown", ""]),
)
def test_only_keys_that_are_shown_or_will_be_are_named(keys: list[str], shown: dict[int, str], trust: str) -> None:
    made = plan(replace(FACTS, keys=tuple(keys), why_no_key="none"), replace(SIGNED, shown=shown, trust=trust))
    named: dict[str, set[str]] = {}
    for one in made.records:
        if one.type == "TLSA":
            named.setdefault(one.name, set()).add(one.value)
    assert all(values == {f"3 1 1 {key}" for key in keys} for values in named.values())
    for port, digest in shown.items():
        assert not digest or digest in keys or f"_{port}._tcp.mail.shop.test" not in named
    assert bool(named) or made.notes


@pytest.mark.parametrize(
    ("at", "records", "planned"),
    [
        ("", (), False),
        ("shop.test", ('0 issue "other.test"',), True),
        ("shop.test", ('0 issue ";"',), True),
        ("shop.test", ('0 issue "ca.test; validationmethods=x"', '0 issue "other.test"'), False),
        ("shop.test", ('0 issue "ca.test; accounturi=x"',), False),  # we have no account yet
        ("shop.test", ('0 issue "other.test"', '128 tbs "x"'), False),  # another record would not help
        ("shop.test", ('0 iodef "mailto:a@shop.test"',), False),
        ("mail.shop.test", ('0 ISSUE "ca.test"',), False),
        ("mail.shop.test", ('0 issue "other.test"',), True),
    ],
)
def test_the_authority_is_let_in_where_others_shut_it_out(at: str, records: tuple[str, ...], planned: bool) -> None:
    found = of("CAA", existing=replace(SIGNED, caa=Caa(at, records)))
    assert found == ([("mail.shop.test", '0 issue "ca.test"')] if planned else [])
    assert of("CAA", replace(FACTS, authority=NOBODY), replace(SIGNED, caa=Caa(at, records))) == []


@pytest.mark.parametrize(
    ("there", "passes", "made"),
    [
        ("", False, "v=spf1 a -all"),
        ("v=spf1 ip4:192.0.2.0/24 ~all", True, "v=spf1 ip4:192.0.2.0/24 ~all"),
        ("v=spf1 include:a.test ~all", False, "v=spf1 a include:a.test ~all"),
        ("v=spf1 a -all", False, "v=spf1 a -all"),
        ("v=spf1 broken:x", False, "v=spf1 a -all"),
        ("v=spf1 -all | v=spf1 mx", False, "v=spf1 a -all"),
    ],
)
def test_spf_that_does_is_left_and_other_is_added_to(there: str, passes: bool, made: str) -> None:
    name = "mail.shop.test"
    existing = replace(SIGNED, spf={name: there}, passes=frozenset({name} if passes else ()))
    assert dict(of("TXT", existing=existing))[name] == made


TERMS = st.lists(st.sampled_from(["mx", "ip4:198.51.100.1", "-ip4:192.0.2.1", "?all", "-all", "redirect=x.test"]))


@given(TERMS)
def test_whatever_was_there_the_address_passes_afterwards(terms: list[str]) -> None:
    redirects = [one for one in terms if one.startswith("redirect")]
    there = " ".join(["v=spf1", *(one for one in terms if one not in redirects), *redirects[:1]])
    name = "mail.shop.test"
    made = dict(of("TXT", existing=replace(SIGNED, spf={name: there})))[name]
    zone = {name: {"TXT": [made], "A": ["192.0.2.1"], "MX": []}}
    assert run(check_host("192.0.2.1", name, f"postmaster@{name}"), zone).verdict == "pass", made


def test_every_record_says_what_it_is_for() -> None:
    made: list[Wanted] = plan(replace(FACTS, keys=(KEY, NEXT)), SIGNED).records
    assert all(one.purpose and one.check for one in made)
    assert {one.check for one in made if one.value.endswith(NEXT)} == {"tlsa-next:25", "tlsa-next:587"}
