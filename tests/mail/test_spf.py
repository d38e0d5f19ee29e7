"""SPF by the examples of RFC 7208 and by laws, and beside pyspf on records made by chance."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest
import spf
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mailfleet.mail.spf import MAX_VOID, SpfResult, check_host
from mailfleet.mail.spf_macro import SpfSyntaxError, parse_macro_string
from mailfleet.mail.spf_record import MAX_LOOKUPS, is_spf, parse
from tests.mail.dns_answers import Zone, run

pyspf: Any = spf

# RFC 7208 appendix A
EXAMPLES: dict[str, dict[str, list[str] | None]] = {
    "example.com": {"MX": ["10 mail-a.example.com", "20 mail-b.example.com"], "A": ["192.0.2.10", "192.0.2.11"]},
    "amy.example.com": {"A": ["192.0.2.65"]},
    "bob.example.com": {"A": ["192.0.2.66"]},
    "mail-a.example.com": {"A": ["192.0.2.129"]},
    "mail-b.example.com": {"A": ["192.0.2.130"]},
    "www.example.com": {"CNAME": ["example.com"]},
    "example.org": {"MX": ["10 mail-c.example.org"]},
    "mail-c.example.org": {"A": ["192.0.2.140"]},
    "10.2.0.192.in-addr.arpa": {"PTR": ["example.com."]},
    "65.2.0.192.in-addr.arpa": {"PTR": ["amy.example.com."]},
    "140.2.0.192.in-addr.arpa": {"PTR": ["mail-c.example.org."]},
    "4.0.0.10.in-addr.arpa": {"PTR": ["bob.example.com."]},
}


def check(zone: Zone, ip: str, domain: str = "example.com", sender: str = "", **options: str) -> SpfResult:
    return run(check_host(ip, domain, sender or f"someone@{domain}", **options), zone)


def with_record(record: str, zone: Zone = EXAMPLES, domain: str = "example.com") -> Zone:
    return {**zone, domain: {**zone.get(domain, {}), "TXT": [record]}}


@pytest.mark.parametrize(
    ("record", "passing", "failing"),
    [
        ("v=spf1 +all", ["192.0.2.10", "10.0.0.4", "2001:db8::1"], []),
        ("v=spf1 a -all", ["192.0.2.10", "192.0.2.11"], ["192.0.2.12", "192.0.2.129"]),
        ("v=spf1 a:example.org -all", [], ["192.0.2.10", "192.0.2.140"]),
        ("v=spf1 mx -all", ["192.0.2.129", "192.0.2.130"], ["192.0.2.10"]),
        ("v=spf1 mx:example.org -all", ["192.0.2.140"], ["192.0.2.129"]),
        ("v=spf1 mx mx:example.org -all", ["192.0.2.129", "192.0.2.130", "192.0.2.140"], ["192.0.2.10"]),
        ("v=spf1 mx/30 mx:example.org/30 -all", ["192.0.2.131", "192.0.2.143"], ["192.0.2.132", "192.0.2.144"]),
        ("v=spf1 ptr -all", ["192.0.2.10", "192.0.2.65"], ["192.0.2.140", "10.0.0.4"]),
        ("v=spf1 ip4:192.0.2.128/28 -all", ["192.0.2.129"], ["192.0.2.65"]),
    ],
)
def test_the_simple_examples(record: str, passing: list[str], failing: list[str]) -> None:
    """RFC 7208 A.1."""
    for ip in passing:
        assert check(with_record(record), ip).verdict == "pass", ip
    for ip in failing:
        assert check(with_record(record), ip).verdict == "fail", ip


def test_records_over_several_domains() -> None:
    """RFC 7208 A.2: include and redirect."""
    zone: Zone = {
        "example.org": {"TXT": ["v=spf1 include:example.com include:example.net -all"]},
        "la.example.org": {"TXT": ["v=spf1 redirect=example.org"]},
        "ny.example.org": {"TXT": ["v=spf1 redirect=example.org"]},
        "example.com": {"TXT": ["v=spf1 ip4:192.0.2.128/28 -all"]},
        "example.net": {"TXT": ["v=spf1 ip4:198.51.100.0/24 -all"]},
    }
    for domain in ("la.example.org", "ny.example.org"):
        assert check(zone, "192.0.2.130", domain).verdict == "pass"
        assert check(zone, "198.51.100.9", domain).verdict == "pass"
        result = check(zone, "203.0.113.1", domain)
        assert (result.verdict, result.domain, result.lookups) == ("fail", "example.org", 3)


def test_a_list_in_the_dns_of_who_may_send() -> None:
    """RFC 7208 A.3: users and addresses behind exists."""
    zone: Zone = {
        "example.com": {"TXT": ["v=spf1 mx -exists:%{l}._spf_verify.%{d} exists:%{i}._spf.%{d} -all"]},
        "mobile-users._spf_verify.example.com": {"A": ["127.0.0.2"]},
        "192.0.2.7._spf.example.com": {"A": ["127.0.0.2"]},
    }
    assert check(zone, "192.0.2.7", sender="mobile-users@example.com").verdict == "fail"
    assert check(zone, "192.0.2.7", sender="joel@example.com").verdict == "pass"


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
    ],
)
def test_the_examples_of_macros(text: str, filled: str) -> None:
    """RFC 7208 7.4."""
    values = {
        "s": "strong-bad@email.example.com", "l": "strong-bad", "o": "email.example.com", "d": "email.example.com",
        "i": "192.0.2.3", "v": "in-addr",
    }  # fmt: skip
    assert parse_macro_string(text).filled(values) == filled


def test_macros_of_an_ipv6_sender() -> None:
    """RFC 7208 7.4, the last example; and a name too long loses labels from the left."""
    host = "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
    zone = {"email.example.com": {"TXT": ["v=spf1 exists:%{ir}.%{v}._spf.%{d2} -all"]}, host: {"A": ["127.0.0.2"]}}
    assert check(zone, "2001:db8::cb01", "email.example.com").verdict == "pass"
    labels = ".".join(["a" * 60] * 4)
    zone = {"example.com": {"TXT": [f"v=spf1 exists:%{{l}}.{labels}.x -all"]}, f"{labels}.x": {"A": ["127.0.0.2"]}}
    assert check(zone, "192.0.2.1", sender=f"{'b' * 60}@example.com").verdict == "pass"


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        ("v=spf1 ip4:192.0.2.300", "has no IPv4 address"),
        ("v=spf1 ip6:192.0.2.1", "has no IPv6 address"),
        ("v=spf1 a/33", "/33 is no prefix length"),
        ("v=spf1 a/024", "/024 is no prefix length"),
        ("v=spf1 include", "names no domain"),
        ("v=spf1 include:", "names no domain"),
        ("v=spf1 include:example.com/24", "takes no prefix length"),
        ("v=spf1 all:example.com", "all takes nothing"),
        ("v=spf1 mx:localhost", "is no domain name"),
        ("v=spf1 a:example.12", "is no domain name"),
        ("v=spf1 exists:%{z}", "is no macro"),
        ("v=spf1 exists:%{t}.example.com", "for explanations only"),
        ("v=spf1 exists:%{d0}", "no part at all is left"),
        ("v=spf1 exists:%d.example.com", "no macro and no plain text"),
        ("v=spf1 redirect=a.test redirect=b.test", "redirect is there twice"),
        ("v=spf1 somebody:example.com", "is no mechanism"),
        ("v=spf1 \u00e4ll", "not ASCII"),
        ("v=spf1 -all\ttabbed", "is no mechanism"),
    ],
)
def test_what_is_wrong_is_named(record: str, wrong: str) -> None:
    with pytest.raises(SpfSyntaxError, match=wrong.replace("/", "/")):
        parse(record)
    result = check(with_record(record), "192.0.2.1")
    assert (result.verdict, wrong in result.why) == ("permerror", True)


def test_what_the_dns_does() -> None:
    assert check({}, "192.0.2.1").verdict == "none"
    assert check({"example.com": {"TXT": ["something else", "v=spf10 -all"]}}, "192.0.2.1").verdict == "none"
    assert check({"example.com": {"TXT": None}}, "192.0.2.1").verdict == "temperror"
    two = {"example.com": {"TXT": ["v=spf1 -all", "v=SPF1 +all"]}}
    assert check(two, "192.0.2.1").why == "example.com has 2 SPF records"
    zone = with_record("v=spf1 a:gone.test ?all", {"gone.test": {"A": None}})
    assert (check(zone, "192.0.2.1").verdict, check(zone, "192.0.2.1").why) == ("temperror", "gone.test A: no answer")
    for wrong in ("", "localhost", "a..test", f"{'x' * 64}.test"):
        assert check({}, "192.0.2.1", wrong, "someone@else.test").verdict == "none"


def test_explanations_are_filled_and_faults_in_them_are_passed_over() -> None:
    zone = {
        "example.com": {"TXT": ["v=spf1 -all exp=why.%{d}"]},
        "why.example.com": {"TXT": ["%{i} may not send for %{d}: see http://%{d}/why?s=%{S} (%{r})"]},
    }
    said = check(zone, "192.0.2.9", sender="a+b@example.com", receiver="mx.test").explanation
    assert said == "192.0.2.9 may not send for example.com: see http://example.com/why?s=a%2Bb%40example.com (mx.test)"
    zone["why.example.com"] = {"TXT": ["%{broken"]}
    assert check(zone, "192.0.2.9").explanation == ""


def test_limits_hold() -> None:
    """RFC 7208 4.6.4."""
    many = " ".join(f"include:i{number}.test" for number in range(MAX_LOOKUPS + 1))
    zone = with_record(f"v=spf1 {many} -all", {f"i{number}.test": {"TXT": ["v=spf1 ?all"]} for number in range(20)})
    result = check(zone, "192.0.2.1")
    assert (result.verdict, "the first too many is include:i10.test" in result.why) == ("permerror", True)
    loop = {"example.com": {"TXT": ["v=spf1 include:example.com -all"]}}
    assert (check(loop, "192.0.2.1").verdict, check(loop, "192.0.2.1").lookups) == ("permerror", MAX_LOOKUPS + 1)
    empty = " ".join(f"exists:n{number}.test" for number in range(MAX_VOID + 1))
    assert "look-ups find nothing" in check(with_record(f"v=spf1 {empty} -all"), "192.0.2.1").why
    hosts = {"example.com": {"MX": [f"{number} m{number}.test" for number in range(11)]}}
    assert "more than 10 mail hosts" in check(with_record("v=spf1 mx -all", hosts), "192.0.2.1").why


def test_an_ipv4_address_in_ipv6_form_is_an_ipv4_address() -> None:
    assert check(with_record("v=spf1 ip4:192.0.2.1 -all"), "::ffff:192.0.2.1").verdict == "pass"


# Records made by chance

DOMAINS = [f"d{number}.test" for number in range(5)]
ADDRESSES = [f"192.0.2.{number}" for number in range(1, 6)]
TARGETS = st.sampled_from(DOMAINS)
TERMS = st.one_of(
    st.builds(lambda sign, what: f"{sign}{what}", st.sampled_from(["", "-", "~", "?", "+"]), st.one_of(
        st.just("all"),
        st.builds("include:{}".format, TARGETS),
        st.just("a"), st.just("mx"),
        st.builds("a:{}".format, TARGETS),
        st.builds("a:{}/29".format, TARGETS),
        st.builds("mx:{}".format, TARGETS),
        st.builds("ip4:{}".format, st.sampled_from(ADDRESSES)),
        st.builds("ip4:{}/30".format, st.sampled_from(ADDRESSES)),
        st.builds("exists:{}".format, TARGETS),
        st.builds("exists:%{{l}}.{}".format, TARGETS),
    )),
    st.builds("redirect={}".format, TARGETS),
    st.sampled_from(["exp=d0.test", "include:", "a:b", "ip4:1.2.3", "ALL", "Include:d1.test"]),
)  # fmt: skip
RECORDS = st.lists(TERMS, max_size=5).map(lambda terms: " ".join(["v=spf1", *terms]))
HOSTS = st.fixed_dictionaries(
    {},
    optional={
        "TXT": st.lists(RECORDS, min_size=1, max_size=1),
        "A": st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2, unique=True),
        "MX": st.lists(TARGETS, min_size=1, max_size=2, unique=True).map(
            lambda hosts: [f"{place} {host}" for place, host in enumerate(hosts)]
        ),
    },
)
ZONES = st.fixed_dictionaries(dict.fromkeys(DOMAINS, HOSTS))


def judged_by_pyspf(zone: Zone, ip: str, domain: str) -> str:
    def look_up(name: str, kind: str, *_: Any, **__: Any) -> Iterator[tuple[tuple[str, str], Any]]:
        for value in (zone.get(name.lower()) or {}).get(kind) or []:
            made: object = value
            if kind == "TXT":
                made = (value.encode(),)
            elif kind == "MX":
                made = int(value.split(" ")[0]), value.split(" ")[1]
            yield (name, kind), made

    kept: Any = pyspf.DNSLookup
    pyspf.DNSLookup = look_up
    try:
        verdict = str(pyspf.query(ip, f"someone@{domain}", domain, strict=True).check()[0])
    finally:
        pyspf.DNSLookup = kept
    return verdict


@given(ZONES, st.sampled_from(ADDRESSES))
@example({"d0.test": {"TXT": ["v=spf1 redirect=d1.test"]}, "d1.test": {}}, ADDRESSES[0])
def test_it_agrees_with_pyspf(zone: Zone, ip: str) -> None:
    """Save for one thing: to pyspf a record that includes its own domain is broken even where the term is never reached."""
    for name, found in zone.items():
        assume(not any(f"include:{name}" in text.lower() for text in found.get("TXT") or []))
    assert check(zone, ip, "d0.test").verdict == judged_by_pyspf(zone, ip, "d0.test")


@given(RECORDS)
def test_what_can_be_read_is_written_as_it_was(text: str) -> None:
    try:
        record = parse(text)
    except SpfSyntaxError:
        return
    assert parse(str(record)) == record
    assert is_spf(str(record))


@given(st.text(max_size=60).map(lambda text: f"v=spf1 {text}"), st.ip_addresses())
def test_garbage_is_an_error_and_never_a_crash(text: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    result = check(with_record(text), str(ip))
    assert result.lookups <= MAX_LOOKUPS + 1
