"""Looking at what the DNS holds for the install itself, server by server. What it means is said in ``policy.server_checks``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import reduce

from mailfleet.base.clock import rfc3339
from mailfleet.engine.caa_reading import read_caa
from mailfleet.engine.certificate_views import HostKeys
from mailfleet.engine.domain_checks import DomainChecker, heard
from mailfleet.engine.server_facts import Install
from mailfleet.mail.spf import SpfResult, check_host
from mailfleet.mail.spf_record import is_spf
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.secure_dns import SecureDns
from mailfleet.net.shown_key import KeyProbe
from mailfleet.policy import certificates, dns_checks, host_checks, server_checks
from mailfleet.policy.caa import Caa
from mailfleet.policy.dns_checks import Check
from mailfleet.policy.dns_plan import Wanted
from mailfleet.policy.server_plan import Sender, ServerExisting, ServerFacts, ServerPlan, ehlo_names, tlsa_name
from mailfleet.store.dns import OwnRecord


class ServerChecker:
    """For one process. ``secure``: a resolver that validates, if there is one to be asked."""

    def __init__(
        self,
        authoritative: Authoritative,
        secure: SecureDns | None,
        domains: DomainChecker,
        probe: KeyProbe,
        install: Install,
    ) -> None:
        self._dns, self._secure, self._domains = authoritative, secure, domains
        self._probe, self._install = probe, install

    async def existing(self, facts: ServerFacts, own: Sequence[OwnRecord]) -> ServerExisting:
        """What is there; ``own`` are the records that we put there."""
        names = ehlo_names(facts)
        texts, passes, caa, trust, shown = await asyncio.gather(
            asyncio.gather(*(self._dns.ask(name, "TXT") for name in names)),
            asyncio.gather(*(self._passes(facts, name) for name in names)),
            read_caa(self._dns, facts.hostname, own if facts.authority.name else ()),
            self._trust(facts.hostname),
            self._shown(facts.hostname),
        )
        spf = {name: " | ".join(sorted(filter(is_spf, one.records))) for name, one in zip(names, texts, strict=True)}
        ours = {
            port: frozenset(
                one.value for one in own if (one.name, one.type) == (tlsa_name(port, facts.hostname), "TLSA")
            )
            for port in facts.ports
        }
        good = frozenset(name for name, well in zip(names, passes, strict=True) if well)
        return ServerExisting(spf, good, caa, trust, shown, ours)

    async def all(
        self, facts: ServerFacts, existing: ServerExisting, planned: ServerPlan, keys: HostKeys, now_ms: int
    ) -> list[Check]:
        """Every check, in the order of the plan."""
        wanted = {(one.name, one.type, one.value): one for one in planned.records}
        sources = await asyncio.gather(*(self._source(one, wanted) for one in dict.fromkeys(facts.senders)))
        spf = await asyncio.gather(*(self._helo_spf(facts, one) for one in planned.records if one.type == "TXT"))
        caa = await self._caa(facts, existing.caa, planned)
        tls = await asyncio.gather(*(self._tlsa(port, facts, existing, planned) for port in facts.ports))
        life = certificates.state(keys.not_before_ms, keys.not_after_ms, now_ms)
        until = rfc3339(keys.not_after_ms)[:16].replace("T", " ") + " UTC" if keys.not_after_ms else ""
        trust = [host_checks.dnssec(existing.trust)] if existing.trust else []
        return [
            await self._domains.host(facts.hostname, "host:server", ()),
            *_named([one for some in sources for one in some]),
            *spf,
            *caa,
            *trust,
            *(one for some in tls for one in some),
            server_checks.certificate(keys.source, life, until, keys.problem),
        ]

    # What is there

    async def _trust(self, name: str) -> str:
        return "" if self._secure is None else await self._secure.trust(name, "A")

    async def _shown(self, hostname: str) -> dict[int, str]:
        """Digests of the keys that ports show now, of those that answer."""
        there = await self._domains.addresses(hostname)
        shown = {}
        for port in self._install.ports:
            for address in [port.address] if port.address else there:
                digest = await self._probe.digest(address, port.connect, hostname, implicit=port.implicit)
                if digest:
                    shown[port.number] = digest
                    break
        return shown

    async def _passes(self, facts: ServerFacts, name: str) -> bool:
        results = await self._evaluated(facts, name)
        return bool(results) and all(one.verdict == "pass" for _, one in results)

    async def _evaluated(self, facts: ServerFacts, name: str) -> list[tuple[str, SpfResult]]:
        """SPF of an EHLO name for each address that says it; for those it leads to where none is known."""
        says = [(one.name, one.address) for one in facts.senders if one.ehlo_name == name and one.address]
        says = says or [("this server", text) for text in await self._domains.addresses(name)]
        sender = f"postmaster@{name}"  # RFC 7208 2.4
        return [(source, await self._domains.run(check_host(text, name, sender, helo=name))) for source, text in says]

    # Checks

    async def _helo_spf(self, facts: ServerFacts, wanted: Wanted) -> Check:
        evaluated = server_checks.helo_spf(wanted, await self._evaluated(facts, wanted.name))
        return host_checks.either(await self._domains.published(wanted), evaluated)

    async def _caa(self, facts: ServerFacts, found: Caa, planned: ServerPlan) -> list[Check]:
        """What an authority finds; then whether every server has what was planned."""
        if not facts.authority.name:
            return []
        check = host_checks.caa([found], facts.authority, [facts.hostname])
        looks = await asyncio.gather(*(self._domains.published(one) for one in planned.records if one.type == "CAA"))
        return [reduce(dns_checks.both, looks, check)]

    async def _source(self, one: Sender, wanted: Mapping[tuple[str, str, str], Wanted]) -> list[Check]:
        """Its name and its address lead to each other (forward-confirmed), on every server."""
        host, *pointers = await self._domains.source(one.name, one.ehlo_name, one.address)
        forward = wanted.get((one.ehlo_name, "AAAA" if ":" in one.address else "A", one.address))
        if forward is not None:
            host = dns_checks.both(await self._domains.published(forward._replace(check=host.name)), host)
        return [host, *pointers]

    async def _tlsa(self, port: int, facts: ServerFacts, existing: ServerExisting, planned: ServerPlan) -> list[Check]:
        name = tlsa_name(port, facts.hostname)
        asked = await self._dns.ask(name, "TLSA")
        says = heard(asked)
        looks = [
            dns_checks.published(one, says, zone=asked.zone, words=asked.words)
            for one in planned.records
            if (one.name, one.type) == (name, "TLSA")
        ]
        shown, why_not = existing.shown.get(port, ""), planned.unnamed.get(port, "")
        first = server_checks.tlsa(f"tlsa:{port}", looks[0] if looks else None, says, shown, why_not)
        return [first, *(server_checks.next_key(one) for one in looks[1:])]


def _named(checks: Sequence[Check]) -> list[Check]:
    """One for each name: a source with several addresses is right when all are."""
    found: dict[str, Check] = {}
    for one in checks:
        before = found.get(one.name)
        found[one.name] = one if before is None else dns_checks.both(before, one)
    return list(found.values())
