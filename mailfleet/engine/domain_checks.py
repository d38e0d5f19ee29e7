"""Looking at what the DNS holds for a domain, server by server, and saying what it means."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection, Generator, Sequence
from dataclasses import replace
from typing import TypeVar

from mailfleet.mail import dmarc as dmarc_rules
from mailfleet.mail.spf import Answer, Question, check_host
from mailfleet.mail.spf_record import is_spf
from mailfleet.net.authoritative import Asked, Authoritative
from mailfleet.policy import dns_checks
from mailfleet.policy.dns_checks import Check, Heard
from mailfleet.policy.dns_plan import Existing, Facts, Wanted, plan
from mailfleet.store.egress import Egress

T = TypeVar("T")
PROBE = "192.0.2.1"  # matches nothing (RFC 5737): what a whole record costs in look-ups


class DomainChecker:
    """For one process. ``private``: addresses that no public DNS knows are looked up all the same, in test networks."""

    def __init__(self, authoritative: Authoritative, *, private: bool) -> None:
        self._dns, self._private = authoritative, private

    async def existing(self, facts: Facts, own: Collection[str]) -> Existing:
        """What others have at the names that are shared with them; ``own`` are the values that we put into the DNS."""
        at_domain, at_dmarc = await asyncio.gather(
            self._dns.ask(facts.domain, "TXT"), self._dns.ask(f"_dmarc.{facts.domain}", "TXT")
        )
        spf = [text for text in _first(at_domain) if is_spf(text)]
        records = [text for text in _first(at_dmarc) if dmarc_rules.is_dmarc(text) and text not in own]
        lookups = 0
        if len(spf) == 1:
            lookups = (await self.run(check_host(PROBE, facts.domain, f"probe@{facts.domain}"))).lookups
        return Existing(spf[0] if len(spf) == 1 else "", lookups, records[0] if len(records) == 1 else "")

    async def all(self, facts: Facts, sources: Sequence[Egress], own: Collection[str]) -> list[Check]:
        """Every check of a domain, in the order of its plan."""
        existing = await self.existing(facts, own)
        wanted = plan(facts, existing)
        found = await asyncio.gather(
            *(self._published(one) for one in wanted if one.check not in ("dmarc", "spf-from"))
        )
        by_name = {one.name: one for one in found}
        by_name["spf-return-path"] = _both(by_name["spf-return-path"], await self._return_path_spf(facts, sources))
        more = await asyncio.gather(
            self._spf_from(facts, existing, wanted),
            self._dmarc(facts, wanted),
            self._replies(facts),
            self._host(facts.hostname, "host:server", ()),
        )
        trust = [await self._trust(facts)] if self._dns.validates else []
        per_source = await asyncio.gather(*(self._source(one, facts) for one in sources if one.address))
        return [*by_name.values(), *more, _alignment(facts), *trust, *(one for some in per_source for one in some)]

    async def run(self, steps: Generator[Question, Answer, T]) -> T:
        """Put the questions of an evaluation to the authoritative servers."""
        try:
            question = next(steps)
            while True:
                question = steps.send(_answer(await self._dns.ask(question.name, question.kind)))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _published(self, wanted: Wanted) -> Check:
        asked = await self._dns.ask(wanted.name, wanted.type)
        return dns_checks.published(wanted, heard(asked), zone=asked.zone, words=asked.words)

    async def _return_path_spf(self, facts: Facts, sources: Sequence[Egress]) -> Check:
        addresses = [(one.name, one.address) for one in sources if one.address]
        if facts.any_address:
            asked = await self._dns.ask(facts.hostname, "A")
            addresses += [("this server", text) for text in _first(asked)[:1]]
        domain = facts.return_path_host
        results = [
            (name, await self.run(check_host(address, domain, f"probe@{domain}", helo=facts.hostname)))
            for name, address in addresses
        ]
        return dns_checks.return_path_spf("spf-return-path", results, domain)

    async def _spf_from(self, facts: Facts, existing: Existing, wanted: Sequence[Wanted]) -> Check:
        """Advice only: receivers look at the return-path."""
        ours = next((one.value for one in wanted if one.check == "spf-from"), "")
        address = facts.addresses[0] if facts.addresses else PROBE
        result = await self.run(check_host(address, facts.domain, f"probe@{facts.domain}"))
        found, expected = existing.spf or "nothing", ours or "a record that can be read"
        if result.verdict == "temperror":
            return Check("spf-from", "unknown", result.why, expected, "the DNS gives no answer", "check again later")
        if result.verdict == "permerror":
            meaning = f"the domain's own SPF record is broken: {result.why}"
            return Check("spf-from", "warning", found, expected, meaning, "mend it: receivers treat it as an error")
        if existing.spf == ours:
            return Check("spf-from", "ok", found, expected, "the domain's own SPF names our senders too")
        meaning = "receivers judge the return-path, which has a record of its own; tools and people look here too"
        return Check("spf-from", "warning", found, expected, meaning, "publish it, exactly as expected")

    async def _dmarc(self, facts: Facts, wanted: Sequence[Wanted]) -> Check:
        expected = next(one.value for one in wanted if one.check == "dmarc")
        found = await self.run(dmarc_rules.discover(facts.domain))
        check = dns_checks.dmarc(found, facts.domain, expected)
        for to in found.record.aggregate_to if found.record and check.state == "ok" else ():
            question = dmarc_rules.report_permission(to, found.at)
            if question is None:
                continue
            asked = await self._dns.ask(question.name, question.kind)
            if asked.answers and not dmarc_rules.permits_reports(_first(asked)):
                return dns_checks.no_permission(check, to, question.name)
        return check

    async def _replies(self, facts: Facts) -> Check:
        expected = "an MX record, or an address"
        mx, address = await asyncio.gather(self._dns.ask(facts.domain, "MX"), self._dns.ask(facts.domain, "A"))
        found = _first(mx) or _first(address)
        if found == ("0 .",):
            meaning = "the domain says that it takes no mail: replies and complaints to From are lost, and some receivers refuse"
            return Check("replies", "warning", "0 .", expected, meaning, "publish MX records of whoever takes its mail")
        if found:
            return Check("replies", "ok", " | ".join(found), expected, "people can reply to From")
        if not mx.answers and not address.answers:
            return Check("replies", "unknown", mx.words, expected, "the DNS gives no answer", "check again later")
        meaning = "nobody can reply to From, and some receivers refuse mail from such a domain"
        return Check("replies", "warning", "nothing", expected, meaning, "publish MX records of whoever takes its mail")

    async def _trust(self, facts: Facts) -> Check:
        expected = "no answer is forged or expired"
        trust = await self._dns.trust(f"_dmarc.{facts.domain}", "TXT")
        if trust == "bogus":
            meaning = "DNSSEC of the zone is broken: receivers that validate see nothing at all"
            return Check(
                "dnssec", "failed", trust, expected, meaning, "sign the zone again, or take its DS record away"
            )
        if trust == "unknown":
            return Check("dnssec", "unknown", trust, expected, "the resolver does not say", "")
        meaning = "the zone is signed and valid" if trust == "secure" else "the zone is not signed, which is allowed"
        return Check("dnssec", "ok", trust, expected, meaning)

    async def _source(self, source: Egress, facts: Facts) -> list[Check]:
        address = ipaddress.ip_address(source.address)
        ehlo = source.ehlo_name or facts.hostname
        if not address.is_global and not self._private:
            why = f"{address} is no public address: no public DNS knows it"
            return [Check(f"ptr:{source.name}", "unknown", "", ehlo, why)]
        host = await self._host(ehlo, f"host:{source.name}", (str(address),))
        asked = await self._dns.ask(address.reverse_pointer, "PTR")
        names, servers = _first(asked), tuple(f"{one.server}: {one.outcome}" for one in asked.said)
        name = f"ptr:{source.name}"
        if not asked.answers:
            words = asked.words or "no server answers"
            return [host, Check(name, "unknown", words, ehlo, "the DNS gives no answer", "check again later", servers)]
        found = " | ".join(names) or "nothing"
        if ehlo.lower() in names:
            return [host, Check(name, "ok", found, ehlo, "the address has the name that it says in EHLO", "", servers)]
        meaning = "the address has another name than it says in EHLO"
        if not names:
            meaning = "the address has no name: Gmail and others refuse its mail"
        step = f"have whoever owns the address set its PTR record to {ehlo}, or change the EHLO name"
        return [host, Check(name, "failed", found, ehlo, meaning, step, servers)]

    async def _host(self, host: str, name: str, addresses: Sequence[str]) -> Check:
        """A name that must lead to an address; to the given one, if any."""
        four, six = await asyncio.gather(self._dns.ask(host, "A"), self._dns.ask(host, "AAAA"))
        there = {str(ipaddress.ip_address(text)) for text in (*_first(four), *_first(six))}
        expected = f"{host} A/AAAA {' '.join(addresses) or 'of this server'}"
        found = " | ".join(sorted(there)) or "nothing"
        if set(addresses) <= there and there:
            return Check(name, "ok", found, expected, "the EHLO name leads to the address that says it")
        if not four.answers and not six.answers:
            return Check(name, "unknown", four.words, expected, "the DNS gives no answer", "check again later")
        step = f"publish {expected}"
        return Check(
            name, "failed", found, expected, "the name does not lead to the address: receivers distrust it", step
        )


def heard(asked: Asked) -> list[Heard]:
    """What each server says, as checks take it."""
    return [
        Heard(f"{one.server} ({one.address})", one.records if one.answers else None, one.words or one.outcome)
        for one in asked.said
    ]


def _both(published: Check, evaluated: Check) -> Check:
    """The record that was planned, and what receivers make of what is there: another that does the same is as good."""
    if published.state == "failed" and evaluated.state == "failed":
        return replace(published, meaning=f"{published.meaning}; {evaluated.meaning}")
    if published.state in ("ok", "warning") and evaluated.state == "ok":
        return published
    return evaluated if published.state != "unknown" else published


def _first(asked: Asked) -> tuple[str, ...]:
    return asked.answers[0].records if asked.answers else ()


def _answer(asked: Asked) -> Answer:
    if not asked.answers:
        return Answer("failed")
    first = asked.answers[0]
    return Answer("missing") if first.outcome == "missing" else Answer("found", first.records)


def _alignment(facts: Facts) -> Check:
    expected = f"under {dmarc_rules.organizational_domain(facts.domain)}"
    found = facts.return_path_host
    if dmarc_rules.aligned(facts.return_path_host, facts.domain, "r"):
        return Check("alignment", "ok", found, expected, "return-path and signature stand for the domain in From")
    meaning = "the return-path does not stand for From: SPF does not count for DMARC"
    return Check("alignment", "failed", found, expected, meaning, "choose a return-path host below the domain")
