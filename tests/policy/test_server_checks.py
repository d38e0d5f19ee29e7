"""What is made of answers about the install itself: each way to be wrong has its own words and a next step."""

from __future__ import annotations

from mailfleet.mail.spf import SpfResult
from mailfleet.policy import dns_checks, host_checks, server_checks
from mailfleet.policy.caa import Caa, Issuer
from mailfleet.policy.dns_checks import Check, Heard, published
from mailfleet.policy.dns_plan import Wanted

KEY, OTHER = "aa" * 32, "cc" * 32
OURS = Wanted("tlsa:25", "_25._tcp.m.test", "TLSA", f"3 1 1 {KEY}", "the key")
SPF = Wanted("helo-spf:m.test", "m.test", "TXT", "v=spf1 a -all", "SPF")


def tlsa(*servers: tuple[str, ...], shown: str = KEY, wanted: bool = True) -> Check:
    heard = [Heard(f"ns{number}", one) for number, one in enumerate(servers, start=1)]
    planned = published(OURS, heard, zone="m.test") if wanted else None
    return server_checks.tlsa("tlsa:25", planned, heard, shown, "the zone is not signed")


def test_a_key_in_the_dns_is_the_one_that_is_shown() -> None:
    right, other, authority = f"3 1 1 {KEY}", f"3 1 1 {OTHER}", f"2 1 1 {OTHER}"
    for check, state, words in (
        (tlsa((right,)), "ok", "the key"),
        (tlsa((right, other)), "ok", "the key"),
        (tlsa((right,), shown=""), "ok", "nobody answers at the port from here"),
        (tlsa(()), "warning", "no key is named"),
        (tlsa((right,), ()), "failed", "the servers differ"),
        (tlsa((other,)), "failed", "another key is shown than the DNS names"),
        (tlsa((right,), (other,)), "failed", "another key is shown than the DNS names"),
        (tlsa((right,), shown=OTHER), "failed", "another key is shown than the DNS names"),
        (tlsa((authority,)), "failed", "another record is there"),
        (tlsa((), wanted=False), "ok", "the zone is not signed"),
        (tlsa((other,), wanted=False, shown=KEY), "failed", "another key is shown than the DNS names"),
        (tlsa((other,), wanted=False, shown=""), "warning", "nobody can be seen to show"),
        (tlsa((authority,), wanted=False), "ok", "the zone is not signed"),
    ):
        assert (check.state, words in check.meaning) == (state, True), check
        assert check.state == "ok" or check.next_step, check


def test_an_authority_is_let_in_by_every_server_or_not_at_all() -> None:
    ours, other = ('0 issue "ca.test"',), ('0 issue "other.test"',)
    for seen, unknown, state, words in (
        ((ours, ours), "", "ok", "may make certificates for m.test"),
        ((ours, other), "", "failed", "the servers differ"),
        ((other, other), "", "failed", "let other.test make certificates for m.test: ours (ca.test) will refuse"),
        ((('0 issue ";"',),), "", "failed", "let nobody make certificates"),
        ((), "", "ok", "any authority may"),
        ((), "m.test: no answer in time", "unknown", "the DNS gives no answer"),
    ):
        servers = tuple((f"ns{number}", one) for number, one in enumerate(seen))
        found = Caa(host="m.test", seen_at="m.test" if seen else "", seen=servers, unknown=unknown)
        check = host_checks.caa([Caa(host="x.test"), found], Issuer("ca.test"), ["", "m.test"])
        assert check.state == state, check
        assert state == "ok" or words in check.meaning, check
        assert check.state == "ok" or check.next_step, check


def test_a_next_key_that_is_missing_waits_and_breaks_nothing() -> None:
    missing = published(OURS._replace(check="tlsa-next:25"), [Heard("ns1", (f"3 1 1 {OTHER}",))], zone="m.test")
    waits = server_checks.next_key(missing)
    assert (waits.name, waits.state) == ("tlsa-next:25", "warning")
    assert "waits until every name server names it" in waits.meaning


def test_spf_of_a_name_is_what_receivers_make_of_it() -> None:
    good, bad, unknown = (SpfResult(one, "why") for one in ("pass", "softfail", "temperror"))
    for results, state, words in (
        ([("s1", good)], "ok", "lets every address pass"),
        ([("s1", good), ("s2", bad)], "failed", "s2 says m.test in EHLO and gets softfail: why"),
        ([("s1", unknown)], "unknown", "gets temperror"),
        ([], "unknown", "no address of m.test is known"),
    ):
        check = server_checks.helo_spf(SPF, results)
        assert (check.name, check.state, words in check.meaning) == (SPF.check, state, True), check


def test_how_a_certificate_stands() -> None:
    for source, life, until, state, words in (
        ("managed", "ok", "2030-01-01", "ok", "clients can be sure"),
        ("managed", "expiring", "2030-01-01", "warning", "not renewed in time"),
        ("managed", "expired", "2030-01-01", "failed", "has ended"),
        ("waiting", "waiting", "", "warning", "there is no certificate yet"),
        ("makeshift", "waiting", "", "warning", "self-signed"),
        ("file", "expiring", "2030-01-01", "warning", "not renewed in time"),
    ):
        check = server_checks.certificate(source, life, until, "")  # type: ignore[arg-type]  # of the table
        assert (check.state, words in check.meaning) == (state, True), check
        assert check.state == "ok" or check.next_step
    assert "no proof" in server_checks.certificate("waiting", "waiting", "", "no proof").found


def test_two_looks_are_right_when_both_are() -> None:
    good, bad = Check("a", "ok", "x", "x", "fine"), Check("b", "failed", "y", "x", "wrong")
    assert dns_checks.both(good, bad).meaning == "wrong"
    assert dns_checks.both(bad, good).meaning == "wrong"
    assert dns_checks.both(good, good).state == "ok"
