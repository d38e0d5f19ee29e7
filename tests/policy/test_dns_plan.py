"""What the DNS must hold: by hand, and by laws."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.mail.mta_sts import StsPolicy
from mailfleet.mail.spf import check_host
from mailfleet.mail.spf_record import parse
from mailfleet.policy.caa import NOBODY, Caa, Issuer
from mailfleet.policy.dns_plan import Existing, Facts, merged_spf, never_sends, plan, rdata_text, zone_text
from tests.mail.dns_answers import Zone, run

FACTS = Facts(
    "shop.test",
    "bounce.shop.test",
    "mta.shop.test",
    (("mf1", "v=DKIM1; k=rsa; p=" + "A" * 392), ("mf2", "v=DKIM1; k=ed25519; p=BB")),
    ("192.0.2.1", "192.0.2.2", "2001:db8::1"),
)


def value(name: str, facts: Facts = FACTS, existing: Existing | None = None) -> str:
    return next(one.value for one in plan(facts, existing or Existing()) if one.check == name)


def test_every_record_is_there() -> None:
    made = {one.check: one for one in plan(FACTS)}
    assert list(made) == ["dkim:mf1", "dkim:mf2", "return-path-mx", "spf-return-path", "spf-from", "dmarc"]
    assert made["return-path-mx"].value == "10 mta.shop.test."
    assert made["spf-return-path"].value == "v=spf1 ip4:192.0.2.1 ip4:192.0.2.2 ip6:2001:db8::1 -all"
    assert made["spf-from"].value == "v=spf1 include:bounce.shop.test ~all"
    assert made["dmarc"].value == "v=DMARC1; p=none"
    assert made["dkim:mf1"].name == "mf1._domainkey.shop.test"


def test_a_source_without_an_address_is_named_by_the_servers_name() -> None:
    facts = Facts("shop.test", "bounce.shop.test", "mta.shop.test", ())
    assert value("spf-return-path", facts) == "v=spf1 a:mta.shop.test -all"


def test_neighbours_become_a_network() -> None:
    facts = Facts("s.test", "b.s.test", "m.test", (), tuple(f"192.0.2.{n}" for n in range(8, 16)))
    assert value("spf-return-path", facts) == "v=spf1 ip4:192.0.2.8/29 -all"


@pytest.mark.parametrize(
    ("there", "lookups", "made"),
    [
        ("", 0, "v=spf1 include:bounce.shop.test ~all"),
        ("v=spf1 mx -all", 1, "v=spf1 mx include:bounce.shop.test -all"),
        ("v=spf1 mx include:bounce.shop.test ?all", 2, "v=spf1 mx include:bounce.shop.test ?all"),
        ("v=spf1 redirect=_spf.office.test", 3, "v=spf1 include:bounce.shop.test redirect=_spf.office.test"),
        ("v=spf1 include:a.test -all", 10, "v=spf1 include:a.test ip4:192.0.2.1 ip4:192.0.2.2 ip6:2001:db8::1 -all"),
        ("v=spf1 ip4:192.0.2.1 ip4:192.0.2.2 ip6:2001:db8::1 a -all", 10, "v=spf1 ip4:192.0.2.1 ip4:192.0.2.2 ip6:2001:db8::1 a -all"),
        ("v=spf1 broken:term -all", 0, ""),
        ("v=spf1 a -all | v=spf1 mx -all", 0, ""),  # two of them
    ],
)  # fmt: skip
def test_ours_goes_into_what_is_there(there: str, lookups: int, made: str) -> None:
    assert merged_spf(FACTS, Existing(there, lookups)) == made


def test_a_policy_of_others_stays_and_the_stage_is_ours_to_set() -> None:
    assert value("dmarc", existing=Existing(dmarc="v=DMARC1; p=reject")) == "v=DMARC1; p=reject"
    facts = Facts("s.test", "b.s.test", "m.test", (), dmarc_policy="quarantine", dmarc_reports_to="d@s.test")
    assert value("dmarc", facts) == "v=DMARC1; p=quarantine; rua=mailto:d@s.test"


def test_text_longer_than_a_string_is_divided() -> None:
    text = rdata_text("TXT", value("dkim:mf1"))
    data = dns.rdata.from_text("IN", "TXT", text)
    assert [len(piece) for piece in data.strings] == [255, 155]  # type: ignore[attr-defined]  # of a TXT
    assert zone_text(plan(FACTS), 300).splitlines()[0] == f"mf1._domainkey.shop.test. 300 IN TXT {text}"
    odd = 'with "quotes" and \\ backslash'
    assert b"".join(dns.rdata.from_text("IN", "TXT", rdata_text("TXT", odd)).strings) == odd.encode()  # type: ignore[attr-defined]


def test_a_domain_that_never_sends_can_be_used_by_nobody() -> None:
    records = {(one.name, one.type): one.value for one in never_sends("parked.test")}
    assert records["parked.test", "MX"] == "0 ."
    assert records["*._domainkey.parked.test", "TXT"] == "v=DKIM1; p="
    zone: Zone = {"parked.test": {"TXT": [records["parked.test", "TXT"]]}}
    assert run(check_host("192.0.2.1", "parked.test", "x@parked.test"), zone).verdict == "fail"


@given(
    st.lists(st.ip_addresses(), min_size=1, max_size=8, unique=True),
    st.sampled_from(["", "v=spf1 mx a:www.test ~all", "v=spf1 include:other.test -all", "v=spf1 redirect=other.test"]),
    st.integers(0, 10),
)
def test_every_source_passes_by_the_plan_and_others_still_do(
    sources: list[ipaddress.IPv4Address | ipaddress.IPv6Address], there: str, lookups: int
) -> None:
    mapped = [one for one in sources if isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped]
    if mapped:
        return
    facts = Facts("s.test", "b.s.test", "m.test", (), tuple(map(str, sources)))
    merged = merged_spf(facts, Existing(there, lookups))
    zone: Zone = {
        "s.test": {"TXT": [merged], "MX": ["10 mx.test"]},
        "b.s.test": {"TXT": [value("spf-return-path", facts)]},
        "mx.test": {"A": ["203.0.113.7"]},
        "www.test": {"A": ["203.0.113.8"]},
        "other.test": {"TXT": ["v=spf1 ip4:203.0.113.9 -all"]},
    }
    for address in sources:
        assert run(check_host(address, "b.s.test", "x@b.s.test"), zone).verdict == "pass"
        assert run(check_host(address, "s.test", "x@s.test"), zone).verdict == "pass"
    if there:
        other = "203.0.113.9" if "other" in there else "203.0.113.8"
        assert run(check_host(other, "s.test", "x@s.test"), zone).verdict == "pass"
        assert parse(merged)


SHOWN = replace(
    FACTS,
    mta_sts=StsPolicy("enforce", ("mx.shop.test",), 604_800),
    tls_reports_to="tls@shop.test",
    public_host="assets.shop.test",
    bimi_logo="https://assets.shop.test/bimi/1234.svg",
    authority=Issuer("letsencrypt.org"),
)


def test_what_a_domain_shows() -> None:
    made = {one.check: one for one in plan(SHOWN)}
    assert list(made)[6:] == ["mta-sts", "mta-sts-host", "tls-rpt", "public-host", "bimi"]
    assert {(one.name, one.type, one.value) for one in list(made.values())[6:]} == {
        ("_mta-sts.shop.test", "TXT", f"v=STSv1; id={SHOWN.mta_sts.number if SHOWN.mta_sts else ''}"),
        ("mta-sts.shop.test", "CNAME", "mta.shop.test."),
        ("_smtp._tls.shop.test", "TXT", "v=TLSRPTv1; rua=mailto:tls@shop.test"),
        ("assets.shop.test", "CNAME", "mta.shop.test."),
        ("default._bimi.shop.test", "TXT", "v=BIMI1; l=https://assets.shop.test/bimi/1234.svg; a="),
    }
    evidence = replace(SHOWN, bimi_evidence="https://ca.test/vmc.pem")
    assert value("bimi", evidence).endswith("; a=https://ca.test/vmc.pem")
    for kind, text in ((one.type, one.value) for one in made.values()):
        dns.rdata.from_text("IN", kind, rdata_text(kind, text))


@pytest.mark.parametrize(
    ("to", "uri"),
    [
        ("https://reports.test/v1?a=b", "https://reports.test/v1?a=b"),
        ("a+b_c.d-e@reports.test", "mailto:a+b_c.d-e@reports.test"),
        ("a!10m@reports.test", "mailto:a%2110m@reports.test"),
        ('"a;b,c"@reports.test', "mailto:%22a%3Bb%2Cc%22@reports.test"),
        ("grün@reports.test", "mailto:gr%C3%BCn@reports.test"),
    ],
)
def test_addresses_cannot_break_the_record_they_stand_in(to: str, uri: str) -> None:
    assert value("tls-rpt", replace(SHOWN, tls_reports_to=to)) == f"v=TLSRPTv1; rua={uri}"
    if not to.startswith("https:"):
        assert value("dmarc", replace(SHOWN, dmarc_reports_to=to)) == f"v=DMARC1; p=none; rua={uri}"


def test_sources_that_are_known_by_their_names() -> None:
    named = replace(FACTS, names=("out1.shop.test", "out2.shop.test"))
    ends = "ip4:192.0.2.1 ip4:192.0.2.2 ip6:2001:db8::1 a:out1.shop.test a:out2.shop.test -all"
    assert value("spf-return-path", named) == f"v=spf1 {ends}"
    behind = {"out1.shop.test": ("192.0.2.3", "2001:db8::1"), "out2.shop.test": ()}
    found = value("spf-return-path", named, Existing(behind=behind))
    assert found == "v=spf1 ip4:192.0.2.1 ip4:192.0.2.2/31 ip6:2001:db8::1 a:out2.shop.test -all"


CA = replace(FACTS, domain="shop.test", authority=Issuer("ca.test"), hosts=("mta-sts.shop.test",))


@pytest.mark.parametrize(
    ("at", "there", "domain", "planned_at"),
    [
        ("", (), "shop.test", ""),  # everybody may
        ("shop.test", ('0 issue "other.test"',), "shop.test", "shop.test"),
        ("shop.test", ('0 issue ";"',), "shop.test", "shop.test"),
        ("shop.test", ('0 ISSUE "CA.test; validationmethods=dns-01"',), "shop.test", ""),
        ("shop.test", ('0 iodef "mailto:a@b.test"', '0 issuewild "other.test"'), "shop.test", ""),
        ("mta-sts.shop.test", ('0 issue "other.test"',), "shop.test", "mta-sts.shop.test"),
        ("shop.test", ('0 issue "other.test"',), "news.shop.test", "shop.test"),  # not to shut out who is named there
        ("test", ('0 issue "other.test"',), "news.shop.test", "news.shop.test"),  # a registry's
        ("mail.host.test", ('0 issue "other.test"',), "shop.test", ""),  # an alias leads there: not the domain's
    ],
)
def test_our_authority_is_let_in_where_others_shut_it_out(
    at: str, there: tuple[str, ...], domain: str, planned_at: str
) -> None:
    caa = Caa(at, there, f"mta-sts.{domain}")
    found = [one for one in plan(replace(CA, domain=domain), Existing(caa=(caa, caa))) if one.type == "CAA"]
    wanted = [(planned_at, '0 issue "ca.test"', "merge")] if planned_at else []
    assert [(one.name, one.value, one.manner) for one in found] == wanted
    assert not any(one.type == "CAA" for one in plan(replace(CA, authority=NOBODY), Existing(caa=(caa,))))


def test_a_record_of_ours_stays_while_nothing_is_known() -> None:
    caa = Caa(host="mta-sts.shop.test", own=(("shop.test", '0 issue "ca.test"'),), unknown="no answer in time")
    found = [one for one in plan(CA, Existing(caa=(caa,))) if one.type == "CAA"]
    assert [(one.name, one.value) for one in found] == list(caa.own)
