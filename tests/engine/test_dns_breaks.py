"""Each way in which the DNS of a domain breaks, on a real Knot: what is found, and whether a person would know what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import dns.name
import dns.query
import dns.rcode
import dns.tsigkeyring
import dns.update
import pytest

from mailfleet.engine.dns_plans import PlanWriter
from mailfleet.engine.dns_publish import DnsPublisher
from mailfleet.engine.dns_zones import DnsZones, zone_label
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domain_views import CheckView
from mailfleet.engine.domains import Domains
from mailfleet.engine.fleet import Fleet
from mailfleet.engine.fleet_views import MemberView
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.dns_update import DynamicUpdate
from mailfleet.net.policy_fetch import PolicyFetcher
from mailfleet.net.resolver import Resolver
from mailfleet.net.secure_dns import SecureDns
from mailfleet.net.tls_client import verified_context
from mailfleet.store import dns as dns_rows
from mailfleet.store import egress, sending
from tests.engine.plant import DOMAIN, HOST, OWNER, Plant
from tests.peers.knot import KEY, SECRET, Knot
from tests.peers.unbound import Unbound

MAIN, LAME, BROKEN, OLD, SILENT = (f"127.0.86.{n}" for n in range(1, 6))
ZONE = [f"mail A {MAIN}", "mail AAAA ::1", "@ MX 10 office", "office A 127.0.0.9"]
REVERSE = "86.0.127.in-addr.arpa"
DKIM, BOUNCE, DMARC = f"r1._domainkey.{DOMAIN}.", f"bounce.{DOMAIN}.", f"_dmarc.{DOMAIN}."
POINTER, APEX, OFFICE = f"1.{REVERSE}.", f"{DOMAIN}.", f"office.{DOMAIN}."
STS, TLSRPT, BIMI = f"_mta-sts.{DOMAIN}.", f"_smtp._tls.{DOMAIN}.", f"default._bimi.{DOMAIN}."
OTHER_KEY = '"v=DKIM1; k=ed25519; p=MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="'
MEND = "see that the domain's name servers answer"
FUTURE = "20500101000000"


class World:
    """One domain, published by the product itself, and its zone."""

    def __init__(self, plant: Plant, knot: Knot, resolver: Unbound) -> None:
        self.plant, self.knot = plant, knot
        self.authoritative = Authoritative(
            DnsQuerier([knot.address], 10, plant.clock), timeout_s=10, port=knot.port, loopback_only=True
        )
        fetcher = PolicyFetcher(
            Resolver([knot.address], 10, plant.clock), verified_context(""), port=9, ipv6=False, loopback_only=True
        )
        self.fetcher = fetcher
        self.publisher = DnsPublisher(plant.database, self.authoritative, self._update, plant.clock, ttl_s=1)
        self.domains = self.looking_through(resolver)
        self.keys = dns.tsigkeyring.from_text({KEY: ("hmac-sha256", SECRET)})
        self.good: dict[tuple[str, str], list[str]] = {}

    def _update(self, target: dns_rows.Target) -> DynamicUpdate:
        assert target.sealed_secret is not None
        secret = self.plant.box.open(target.sealed_secret, zone_label(target.zone)).decode()
        return DynamicUpdate(target.zone, (MAIN, self.knot.port), key_name=KEY, secret=secret, loopback_only=True)

    def looking_through(self, resolver: Unbound) -> Domains:
        plant: Any = self.plant
        secure = SecureDns(("127.0.0.1", resolver.port), 10, plant.clock, loopback_only=True)
        defaults = SourceDefaults(HOST, private=True)
        checker = DomainChecker(self.authoritative, secure, self.fetcher, defaults=defaults)
        return Domains(
            plant.database, checker, self.publisher, PlanWriter(self.authoritative, {}, 1), plant.dmarc,
            defaults=defaults, clock=plant.clock, ids=plant.ids, time_scale=1,
        )  # fmt: skip

    async def publish(self) -> None:
        plant = self.plant
        await plant.database.write(lambda tx: egress.ensure_default(tx, plant.clock.now_ms()))
        fleet = Fleet(plant.database, plant.box, plant.clock)
        await fleet.add_source(OWNER, "s1", {"address": MAIN, "ehlo_name": HOST})
        await fleet.set_pool(OWNER, "default", members=[MemberView(name="s1", weight=1)], overflow=None, new=False)
        found = await plant.database.read(lambda tx: sending.by_name(tx, DOMAIN))
        assert found is not None
        wanted = found._replace(
            tls_reports_to="tls@shop.example", public_host=f"assets.{DOMAIN}", bimi_logo="abc",
            mta_sts="testing", mta_sts_mx=f"office.{DOMAIN}", dmarc_reports_to="dmarc@reports.test",
        )  # fmt: skip
        await plant.database.write(lambda tx: sending.update(tx, wanted))
        zones = DnsZones(plant.database, plant.box, self._update, plant.clock, plant.ids)
        await zones.add_dynamic(
            OWNER, DOMAIN, server=self.knot.address, key_name=KEY, secret=SECRET, algorithm="hmac-sha256"
        )
        view = await self.domains.publish(OWNER, DOMAIN, adopt=False, dry_run=False)
        assert not view.missing
        for zone in (DOMAIN, REVERSE):
            for line in self.knot.everything(zone):
                name, _, kind, value = line.split(None, 3)
                self.good.setdefault((name, kind), []).append(value)

    def put(self, records: dict[tuple[str, str], list[str]]) -> None:
        """In place of whatever is there."""
        for (name, kind), values in records.items():
            zone = REVERSE if name.endswith(f"{REVERSE}.") else DOMAIN
            gone, there = (dns.update.UpdateMessage(zone, keyring=self.keys) for _ in range(2))
            gone.delete(dns.name.from_text(name), kind)
            for value in values:
                there.add(dns.name.from_text(name), 1, kind, value)
            self.send(gone)
            self.send(there)

    def send(self, update: dns.update.UpdateMessage) -> None:
        answer = dns.query.tcp(update, MAIN, port=self.knot.port, timeout=20)
        assert answer.rcode() == dns.rcode.NOERROR

    def served_by(self, address: str, *, alone: bool = False) -> None:
        """From now on a second name server at this address is said to serve the zone; ``alone``: and no other."""
        self.put({(f"ns2.{DOMAIN}.", "A"): [address]})
        update = dns.update.UpdateMessage(DOMAIN, keyring=self.keys)
        update.add("@", 1, "NS", f"ns2.{DOMAIN}.")
        if alone:
            update.delete("@", "NS", f"ns.{DOMAIN}.")
        self.send(update)

    async def look(self) -> dict[str, CheckView]:
        self.plant.clock.skip(400)  # past what resolvers remember
        return {one.name: one for one in (await self.domains.check(OWNER, DOMAIN)).checks}


@pytest.fixture
async def world(plant: Plant, tmp_path: Path) -> AsyncIterator[World]:
    knot = Knot(
        tmp_path / "knot", {DOMAIN: ZONE, REVERSE: [f"1 PTR {HOST}."]}, secret=SECRET, signed=True, addresses=(MAIN,)
    )
    zones = {DOMAIN: knot.address}
    unbound = Unbound(tmp_path / "unbound", zones, [knot.trust_anchor(DOMAIN)])
    made = World(plant, knot, unbound)
    await made.publish()
    yield made
    unbound.close()
    knot.close()


class Case(NamedTuple):
    """What stands in place of a record, and what is said then: all of it must be in the words of the finding."""

    name: str
    kind: str
    values: list[str]
    check: str
    state: str
    found: str
    meaning: str
    step: str


def keys_and_return_path(good: dict[tuple[str, str], list[str]]) -> list[Case]:
    (dkim,) = good[DKIM, "TXT"]
    (mx,), (spf,) = good[BOUNCE, "MX"], good[BOUNCE, "TXT"]
    key, at, replaced = "dkim:r1", DKIM.rstrip("."), "by what is expected"
    missing, office = "publish it at", f"10 {OFFICE.rstrip('.')}"
    many = [spf, *(f'"{number:0250}"' for number in range(8))]
    path, back = "spf-return-path", "return-path-mx"
    return [
        Case(DKIM, "TXT", [], key, "failed", "nothing", "every signature with this key fails", f"{missing} {at} (TXT)"),
        Case(DKIM, "TXT", [OTHER_KEY], key, "failed", "ed25519", "another key is there", replaced),
        Case(DKIM, "TXT", [dkim.split('" "')[0] + '"'], key, "failed", "p=MII", "cut off after 237 of 392", "--zone"),
        Case(DKIM, "TXT", [dkim[:70] + '"'], key, "failed", "p=MII", "cut off after", "in strings of 255 characters"),
        Case(DKIM, "TXT", [dkim, OTHER_KEY], key, "failed", " | ", "receivers may take either", "not ours"),
        Case(DKIM, "TXT", ['"v=DKIM1; p="'], key, "failed", "p=", "the key is revoked", replaced),
        Case(DKIM, "TXT", ['"hello"'], key, "failed", "hello", "no DKIM record", replaced),
        Case(BOUNCE, "MX", [], back, "failed", "nothing", "there is no such record", "publish it at bounce."),
        Case(BOUNCE, "MX", [f"10 {OFFICE}"], back, "failed", office, "never reach us", replaced),
        Case(BOUNCE, "MX", [mx, f"5 {OFFICE}"], back, "failed", " | ", "stands beside ours", "remove the other MX"),
        Case(BOUNCE, "MX", ["0 ."], back, "failed", "0 .", "it takes no mail", replaced),
        Case(BOUNCE, "TXT", [], path, "failed", "nothing", "mail from s1", "publish it at bounce."),
        Case(BOUNCE, "TXT", ['"v=spf1 ip4:192.0.2.1 -all"'], path, "failed", "192.0.2.1", "gets fail", replaced),
        Case(BOUNCE, "TXT", [spf, '"v=spf1 -all"'], path, "failed", " | ", "receivers then count neither", "keep one"),
        Case(
            BOUNCE, "TXT", ['"v=spf1 ipv4:127.0.0.1"'], path, "failed", "ipv4", "'ipv4:127.0.0.1' is no mech", replaced
        ),
        Case(
            BOUNCE,
            "TXT",
            ['"v=spf1 -ipv4:1"'],
            "spf-from",
            "warning",
            "include:bounce",
            "is broken",
            "this record is right",
        ),
        Case(BOUNCE, "TXT", many, path, "ok", "v=spf1", "SPF of the return-path", ""),  # over TCP alone
    ]


def policies_and_hosts(good: dict[tuple[str, str], list[str]]) -> list[Case]:
    (spf,), (dmarc,), host = good[APEX, "TXT"], good[DMARC, "TXT"], f"{HOST}."
    two, none = "two records of this kind", "there is no such record"
    same = [*good[STS, "TXT"], '"v=STSv1; id=1"']
    reports = [*good[TLSRPT, "TXT"], '"v=TLSRPTv1; rua=mailto:x@y.test"']
    bimi, assets = [*good[BIMI, "TXT"], '"v=BIMI1; l="'], f"assets.{DOMAIN}."
    wrong = "have exactly one record at _dmarc.shop.example"
    return [
        Case(APEX, "TXT", [], "spf-from", "warning", "nothing", "receivers judge the return-path", "publish it"),
        Case(
            APEX, "TXT", [spf, '"v=spf1 mx -all"'], "spf-from", "warning", " | ", "2 SPF records", "keep one SPF record"
        ),
        Case(APEX, "TXT", ['"v=spf1 broken:x"'], "spf-from", "warning", "broken:x", "is no mechanism", "mend it"),
        Case(DMARC, "TXT", [], "dmarc", "failed", "there is no DMARC", "refuse bulk mail", "publish it at _dmarc."),
        Case(DMARC, "TXT", ['"v=DMARC1; p=perhaps"'], "dmarc", "failed", "p is missing, or", "counts as none", wrong),
        Case(DMARC, "TXT", ['"v=DMARC1"'], "dmarc", "failed", "p is missing, or", "counts as none", wrong),
        Case(DMARC, "TXT", [dmarc, '"v=DMARC1; p=reject"'], "dmarc", "failed", "2 DMARC", "counts as none", wrong),
        Case(APEX, "MX", [], "replies", "warning", "nothing", "nobody can reply", "publish MX records"),
        Case(APEX, "MX", ["0 ."], "replies", "warning", "0 .", "it takes no mail", "publish MX records"),
        Case(host, "A", ["127.0.0.77"], "host:s1", "failed", "127.0.0.77", "does not lead", f"the A record {MAIN}"),
        Case(POINTER, "PTR", [], "ptr:s1", "failed", "nothing", "has no name", f"set its PTR record to {HOST}"),
        Case(POINTER, "PTR", ["x.isp.test."], "ptr:s1", "failed", "x.isp", "another name", "set its PTR record"),
        Case(STS, "TXT", [], "mta-sts", "failed", "nothing", none, "publish it"),
        Case(STS, "TXT", same[1:], "mta-sts", "failed", "id=1", "another record is there", "by what is expected"),
        Case(STS, "TXT", same, "mta-sts", "failed", " | ", two, "not ours"),
        Case(TLSRPT, "TXT", [], "tls-rpt", "failed", "nothing", none, "publish it"),
        Case(TLSRPT, "TXT", reports, "tls-rpt", "failed", " | ", two, "not ours"),
        Case(BIMI, "TXT", [], "bimi", "failed", "nothing", none, "publish it"),
        Case(BIMI, "TXT", bimi, "bimi", "failed", " | ", two, "not ours"),
        Case(assets, "CNAME", [], "public-host", "failed", "nothing", none, "publish it"),
        Case(assets, "CNAME", [OFFICE], "public-host", "failed", "office.", "another record", "by what is expected"),
    ]


def amiss(one: CheckView, case: Case) -> str:
    """Where the finding is not what it should be; empty where it is."""
    right = (one.state, case.found in one.found, case.meaning in one.meaning, case.step in one.next_step)
    return "" if right == (case.state, True, True, True) else f"{case}\n    {one}"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("cases", [keys_and_return_path, policies_and_hosts])
async def test_records(world: World, cases: Callable[[dict[tuple[str, str], list[str]]], list[Case]]) -> None:
    at_first = await world.look()
    not_right = {name: one.state for name, one in at_first.items() if one.state != "ok"}
    assert not_right == {"mta-sts-host": "failed"}, "nobody speaks HTTPS here"
    wrong = []
    for case in cases(world.good):
        world.put({(case.name, case.kind): case.values})
        found = await world.look()
        wrong.append(amiss(found[case.check], case))
        assert found[case.check].state == "ok" or found[case.check].expected
        world.put({(case.name, case.kind): world.good[case.name, case.kind]})
    assert not any(wrong), "\n".join(one for one in wrong if one)
    again = await world.look()
    assert {name: one.state for name, one in again.items() if one.state != "ok"} == not_right


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_an_alias_that_leads_nowhere(world: World) -> None:
    world.put({(DKIM, "TXT"): [], (DKIM, "CNAME"): ["key.elsewhere.test."]})
    found = (await world.look())["dkim:r1"]
    assert found.state == "unknown"
    assert "alias (CNAME) of key.elsewhere.test" in found.found
    assert "take the alias away" in found.next_step


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_name_servers(world: World, tmp_path: Path) -> None:
    """One that does not serve the zone, one that cannot read it, one that has it as it was, one that is not there."""
    port = world.knot.port
    zones = {LAME: {"other.test": [""]}, BROKEN: {DOMAIN: ["unbalanced ( A"]}, OLD: {DOMAIN: ZONE}}
    others = [Knot(tmp_path / at, lines, addresses=(at,), port=port) for at, lines in zones.items()]
    reached = "every name server"
    try:
        for address, state, meaning, step in (
            (
                LAME,
                "warning",
                "it does not serve the zone (REFUSED)",
                "take it out of the NS records here and at the registrar",
            ),
            (BROKEN, "warning", "SERVFAIL (it cannot read its copy of the zone)", "mend that name server"),
            (SILENT, "warning", "no answer in time", "mend that name server"),
            (OLD, "failed", "the servers differ", reached),
        ):
            world.served_by(address)
            world.authoritative._timeout_s = 1 if address == SILENT else 10
            found = await world.look()
            for name in ("dkim:r1", "return-path-mx", "spf-return-path"):
                one = found[name]
                assert (one.state, meaning in one.meaning, step in one.next_step) == (state, True, True), one
                assert any(address in line for line in one.servers)
            assert found["dmarc"].state == ("failed" if address == OLD else "ok"), found["dmarc"]
        world.served_by(BROKEN, alone=True)
        found = await world.look()
        assert "failed" not in {one.state for name, one in found.items() if name != "mta-sts-host"}, "nothing is known"
        assert "SERVFAIL" in found["replies"].found
        assert MEND in found["replies"].next_step
        assert "mend the name servers" in found["dkim:r1"].next_step
    finally:
        for other in others:
            other.close()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_signatures_that_have_expired(world: World, tmp_path: Path) -> None:
    assert (await world.look())["dnssec"].meaning == "the zone is signed and valid"
    anchor = world.knot.trust_anchor(DOMAIN)
    late = Unbound(tmp_path / "late", {DOMAIN: world.knot.address}, [anchor], date=FUTURE)
    try:
        world.domains = world.looking_through(late)
        found = (await world.look())["dnssec"]
        assert found.state == "failed"
        assert "receivers that validate see nothing at all" in found.meaning
        assert "sign the zone again" in found.next_step
    finally:
        late.close()
