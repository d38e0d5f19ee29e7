"""Looking at what the DNS holds for a domain, server by server. What it means is said in ``policy.dns_checks`` and ``host_checks``."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Generator, Mapping, Sequence
from functools import reduce
from typing import TypeVar

from mailfleet.engine.caa_reading import read_caa
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.mail import dmarc as dmarc_rules
from mailfleet.mail.mta_sts import StsPolicy
from mailfleet.mail.spf import Answer, Question, check_host
from mailfleet.mail.spf_record import is_spf
from mailfleet.net.authoritative import Asked, Authoritative
from mailfleet.net.policy_fetch import PolicyFetcher, PolicyFetchError
from mailfleet.net.secure_dns import SecureDns
from mailfleet.policy import dns_checks, host_checks, sts_checks
from mailfleet.policy.caa import Caa, place
from mailfleet.policy.dns_checks import Check, Heard, both
from mailfleet.policy.dns_plan import Existing, Facts, Wanted, plan
from mailfleet.store.dns import OwnRecord
from mailfleet.store.egress import Egress

T = TypeVar("T")
PROBE = "192.0.2.1"  # matches nothing (RFC 5737): what a whole record costs in look-ups
MANY_NAMES = 4  # in an SPF record, each a look-up of the ten that there may be (RFC 7208 4.6.4)


class DomainChecker:
    """For one process. ``secure``: a resolver that validates, if there is one to be asked."""

    def __init__(
        self,
        authoritative: Authoritative,
        secure: SecureDns | None,
        fetcher: PolicyFetcher,
        *,
        defaults: SourceDefaults,
    ) -> None:
        self._dns, self._secure, self._fetcher, self._defaults = authoritative, secure, fetcher, defaults

    async def existing(self, facts: Facts, own: Sequence[OwnRecord]) -> Existing:
        """What others have at the names that are shared with them; ``own`` are the records that we put into the DNS."""
        hosts = facts.hosts if facts.authority.name else ()
        at_domain, at_dmarc, caa = await asyncio.gather(
            self._dns.ask(facts.domain, "TXT"),
            self._dns.ask(f"_dmarc.{facts.domain}", "TXT"),
            asyncio.gather(*(read_caa(self._dns, host, own) for host in hosts)),
        )
        ours = {one.value for one in own}
        spf = sorted(text for text in at_domain.records if is_spf(text))
        records = [text for text in at_dmarc.records if _counts(text) and text not in ours]
        lookups = 0
        if len(spf) == 1:
            lookups = (await self.run(check_host(PROBE, facts.domain, f"probe@{facts.domain}"))).lookups
        behind = await asyncio.gather(*(self._behind(name) for name in facts.names if len(facts.names) > MANY_NAMES))
        # Several SPF records are one that cannot be read, and so is not touched.
        return Existing(" | ".join(spf), lookups, records[0] if len(records) == 1 else "", tuple(caa), dict(behind))

    async def _behind(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The addresses that a name leads to."""
        found = await asyncio.gather(self._dns.ask(name, "A"), self._dns.ask(name, "AAAA"))
        return name, tuple(text for one in found for text in one.records)

    async def all(self, facts: Facts, sources: Sequence[Egress], own: Sequence[OwnRecord]) -> list[Check]:
        """Every check of a domain, in the order of its plan."""
        existing = await self.existing(facts, own)
        wanted = plan(facts, existing)
        found = await asyncio.gather(*(self.published(one) for one in wanted if one.check not in ("dmarc", "spf-from")))
        by_name = {one.name: one for one in found}
        for name in (f"dkim:{selector}" for selector in facts.next_keys):
            by_name[name] = dns_checks.of_next_key(by_name[name])
        by_name["spf-return-path"] = host_checks.either(
            by_name["spf-return-path"], await self._return_path_spf(facts, sources)
        )
        if existing.caa:
            by_name["caa"] = self._caa(facts, existing.caa, [one for one in found if one.name == "caa"])
        if facts.mta_sts is not None:
            by_name |= {one.name: one for one in await self._sts(facts.domain, facts.mta_sts, by_name)}
        more = await asyncio.gather(
            self._spf_from(facts, existing, wanted),
            self._dmarc(facts, wanted),
            self._replies(facts),
            self.host(facts.hostname, "host:server", ()),
        )
        trust = []
        if self._secure is not None:
            trust = [host_checks.dnssec(await self._secure.trust(f"_dmarc.{facts.domain}", "TXT"))]
        per_source = await asyncio.gather(*(self._source(one) for one in sources if one.address))
        return [
            *by_name.values(),
            *more,
            host_checks.alignment(facts.domain, facts.return_path_host),
            *trust,
            *(one for some in per_source for one in some),
        ]

    @staticmethod
    def _caa(facts: Facts, found: Sequence[Caa], planned: Sequence[Check]) -> Check:
        """What an authority finds; then whether every server has what was planned."""
        check = host_checks.caa(found, facts.authority, [place(one, facts.domain) for one in found])
        return reduce(both, planned, check)

    async def run(self, steps: Generator[Question, Answer, T]) -> T:
        """Put the questions of an evaluation to the authoritative servers."""
        try:
            question = next(steps)
            while True:
                question = steps.send(_answer(await self._dns.ask(question.name, question.kind)))
        except StopIteration as end:
            result: T = end.value
            return result

    async def published(self, wanted: Wanted) -> Check:
        asked = await self._dns.ask(wanted.name, wanted.type)
        return dns_checks.published(wanted, heard(asked), zone=asked.zone, words=asked.words)

    async def _return_path_spf(self, facts: Facts, sources: Sequence[Egress]) -> Check:
        named = [one for one in sources if one.address in facts.addresses]
        says = [(one.name, one.address, self._defaults.name(one.ehlo_name)) for one in named]
        rest = set(facts.addresses) - {one.address for one in named}
        says += [(address, address, self._defaults.name()) for address in sorted(rest)]
        found = await asyncio.gather(*(self._dns.ask(one, "A") for one in facts.names))
        says += [(name, text, name) for name, one in zip(facts.names, found, strict=True) for text in one.records[:1]]
        domain = facts.return_path_host
        results = [
            (name, await self.run(check_host(address, domain, f"probe@{domain}", helo=helo)))
            for name, address, helo in says
        ]
        return dns_checks.return_path_spf("spf-return-path", results, domain)

    async def _spf_from(self, facts: Facts, existing: Existing, wanted: Sequence[Wanted]) -> Check:
        ours = next((one.value for one in wanted if one.check == "spf-from"), "")
        address = facts.addresses[0] if facts.addresses else PROBE
        result = await self.run(check_host(address, facts.domain, f"probe@{facts.domain}"))
        return host_checks.spf_from(result, existing.spf, ours)

    async def _dmarc(self, facts: Facts, wanted: Sequence[Wanted]) -> Check:
        expected = next(one.value for one in wanted if one.check == "dmarc")
        found = await self.run(dmarc_rules.discover(facts.domain))
        check = dns_checks.dmarc(found, facts.domain, expected)
        if check.state == "ok":
            asked = await self._dns.ask(f"_dmarc.{found.at}", "TXT")
            if asked.answers and asked.agreed is None:
                text = asked.answers[0].records
                return dns_checks.differ(
                    check, heard(asked), [one.server for one in asked.answers if one.records != text]
                )
        for to in found.record.aggregate_to if found.record and check.state == "ok" else ():
            question = dmarc_rules.report_permission(to, found.at)
            if question is None:
                continue
            asked = await self._dns.ask(question.name, question.kind)
            if asked.answers and not dmarc_rules.permits_reports(asked.records):
                return dns_checks.no_permission(check, to, question.name)
        return check

    async def _sts(self, domain: str, policy: StsPolicy, found: Mapping[str, Check]) -> list[Check]:
        """Of its own policy: as others get it, and by the mail hosts that there are."""
        text, why = None, ""
        try:
            text = await self._fetcher.fetch(domain)
        except PolicyFetchError as error:
            why = str(error)
        mx = await self._dns.ask(domain, "MX")
        served = sts_checks.served(domain, policy, text, why)
        return [
            host_checks.either(found[sts_checks.HOST], served) if served.state == "ok" else served,
            sts_checks.hosts(policy, known(mx), mx.why),
        ]

    async def _replies(self, facts: Facts) -> Check:
        mx, address = await asyncio.gather(self._dns.ask(facts.domain, "MX"), self._dns.ask(facts.domain, "A"))
        return host_checks.replies(known(mx), known(address), mx.why)

    async def _source(self, source: Egress) -> list[Check]:
        (address,) = self._defaults.public(source) or [""]
        return await self.source(source.name, self._defaults.name(source.ehlo_name), address)

    async def source(self, name: str, ehlo: str, address: str) -> list[Check]:
        """Its EHLO name and its address lead to each other. ``address`` empty: it is known by that name only."""
        if address:
            return [await self.host(ehlo, f"host:{name}", (address,)), await self._pointer(name, ehlo, address)]
        host, there = await asyncio.gather(self.host(ehlo, f"host:{name}", ()), self.addresses(ehlo))
        if not there:
            return host_checks.nowhere(host, f"ptr:{name}", ehlo)
        return [host, reduce(both, [await self._pointer(name, ehlo, one) for one in there])]

    async def _pointer(self, name: str, ehlo: str, address: str) -> Check:
        """Every server has the name of the address, and it is the one that is said in EHLO."""
        reverse = ipaddress.ip_address(address).reverse_pointer
        asked = await self._dns.ask(reverse, "PTR")
        servers = tuple(f"{one.server}: {' '.join(one.records) or one.words or one.outcome}" for one in asked.said)
        found = host_checks.pointer(f"ptr:{name}", ehlo, known(asked), servers, asked.why)
        if found.state != "ok":
            return found
        every = Wanted(found.name, reverse, "PTR", f"{ehlo}.", found.meaning)
        return both(dns_checks.published(every, heard(asked), zone=asked.zone), found)

    async def addresses(self, name: str) -> list[str]:
        """Those that a name leads to for all the world."""
        four, six = await asyncio.gather(self._dns.ask(name, "A"), self._dns.ask(name, "AAAA"))
        return [text for text in (*four.records, *six.records) if self._defaults.counts(text)]

    async def host(self, host: str, name: str, addresses: Sequence[str]) -> Check:
        four, six = await asyncio.gather(self._dns.ask(host, "A"), self._dns.ask(host, "AAAA"))
        return host_checks.host(name, host, addresses, known(four), known(six), four.why)


def _counts(text: str) -> bool:
    """Whether a TXT record is a DMARC policy that receivers keep to."""
    try:
        return dmarc_rules.is_dmarc(text) and bool(dmarc_rules.parse(text))
    except dmarc_rules.DmarcSyntaxError:
        return False


def heard(asked: Asked) -> list[Heard]:
    """What each server says, as checks take it."""
    return [
        Heard(f"{one.server} ({one.address})", one.records if one.answers else None, one.words or one.outcome)
        for one in asked.said
    ]


def known(asked: Asked) -> tuple[str, ...] | None:
    """All that any server has; None where none answers."""
    return asked.records if asked.answers else None


def _answer(asked: Asked) -> Answer:
    if not asked.answers:
        return Answer("failed")
    first = asked.answers[0]
    return Answer("missing") if first.outcome == "missing" else Answer("found", first.records)
