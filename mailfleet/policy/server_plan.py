"""What the DNS must hold for the install itself: its name, the names and addresses of its sources, the keys it shows. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mailfleet.mail.spf_macro import SpfSyntaxError
from mailfleet.mail.spf_record import Directive, SpfRecord, parse
from mailfleet.policy.caa import NOBODY, Caa, Issuer, lets_in, not_understood, value
from mailfleet.policy.dns_plan import Wanted

SMTP = 25
HELO_SPF = SpfRecord((Directive("+", "a"), Directive("-", "all")))  # RFC 7208 2.3


class Sender(NamedTuple):
    """A source. ``address`` is in its one canonical form; empty where none that is public is known."""

    name: str
    address: str
    ehlo_name: str


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a plan is made from.

    ``authority``: of certificates. ``ports``: where TLS is shown under ``hostname``. ``keys``: digests (SHA-256, hexadecimal) of
    the key that is shown there, then of those that follow it; ``why_no_key`` where there are none.
    """

    hostname: str
    senders: tuple[Sender, ...] = ()
    authority: Issuer = NOBODY
    ports: tuple[int, ...] = (SMTP,)
    keys: tuple[str, ...] = ()
    why_no_key: str = ""


@dataclass(frozen=True, slots=True)
class ServerExisting:
    """What is there. ``spf``: the record at a name; ``passes``: names whose record lets all their addresses pass already.

    ``trust``: what a validating resolver thinks of the name's zone; empty: none was asked. ``shown``: digests of the keys that
    ports show. ``ours``: values of TLSA records that we have put there, by port.
    """

    spf: Mapping[str, str] = field(default_factory=dict)
    passes: frozenset[str] = frozenset()
    caa: Caa = field(default_factory=Caa)
    trust: str = ""
    shown: Mapping[int, str] = field(default_factory=dict)
    ours: Mapping[int, frozenset[str]] = field(default_factory=dict)


class ServerPlan(NamedTuple):
    """``notes``: sentences on what is not planned, and why. ``unnamed``: of ports whose key is not named, that sentence."""

    records: list[Wanted]
    notes: list[str]
    unnamed: Mapping[int, str]


def plan(facts: ServerFacts, existing: ServerExisting) -> ServerPlan:
    """Every record, those first that mail cannot do without."""
    if "." not in facts.hostname.strip("."):
        return ServerPlan([], [f"{facts.hostname or 'the server'} is no full name: set server.hostname"], {})
    keys, unnamed = _tlsa(facts, existing)
    notes = list(dict.fromkeys(unnamed.values()))
    records = [*_addresses(facts), *_pointers(facts), *_spf(facts, existing), *_caa(facts, existing.caa), *keys]
    unknown = [one.name for one in facts.senders if not one.address]
    if unknown:
        notes.insert(
            0,
            f"no public address of {', '.join(unknown)} is known: publish A and PTR records of it yourself, or name the"
            " address that it sends from: mailfleet source add",
        )
    elif not any(one.ehlo_name == facts.hostname for one in facts.senders):
        notes.insert(0, f"no source is called {facts.hostname}: publish the address of this server there yourself")
    return ServerPlan(records, notes, unnamed)


def _addresses(facts: ServerFacts) -> list[Wanted]:
    made: dict[tuple[str, str], Wanted] = {}
    for one in facts.senders:
        if one.address:
            purpose = "leads from the name that is said in EHLO to the address that says it"
            kind = "AAAA" if ":" in one.address else "A"
            wanted = Wanted(f"host:{one.name}", one.ehlo_name, kind, one.address, purpose, "merge")
            made.setdefault((one.ehlo_name, one.address), wanted)
    return list(made.values())


def _pointers(facts: ServerFacts) -> list[Wanted]:
    """One for each address: several names of one address are taken for a sign of a home (RFC 1912 2.1 allows one alone)."""
    made: dict[str, Wanted] = {}
    for one in facts.senders:
        if one.address:
            name = ipaddress.ip_address(one.address).reverse_pointer
            purpose = f"the name of {one.address}; it is set by whoever owns the address, your hoster for example"
            made.setdefault(one.address, Wanted(f"ptr:{one.name}", name, "PTR", f"{one.ehlo_name}.", purpose))
    return list(made.values())


def ehlo_names(facts: ServerFacts) -> list[str]:
    """Every name that is said in EHLO; the server's own is among them, since bounces that we make are from it."""
    return list(dict.fromkeys([facts.hostname, *(one.ehlo_name for one in facts.senders)]))


def _spf(facts: ServerFacts, existing: ServerExisting) -> list[Wanted]:
    purpose = "SPF of the EHLO name: receivers look at it, and at nothing else where the return-path is empty"
    return [
        Wanted(f"helo-spf:{name}", name, "TXT", _helo_spf(existing.spf.get(name, ""), name in existing.passes), purpose,
               "merge")
        for name in ehlo_names(facts)
    ]  # fmt: skip


def _helo_spf(there: str, passes: bool) -> str:
    """What is there, where it does or can be made to; ours where it cannot be read."""
    if passes:
        return there
    try:
        record = parse(there)
    except SpfSyntaxError:
        return str(HELO_SPF)
    ours = HELO_SPF.directives[0]
    if ours in record.directives:
        return there
    return str(replace(record, directives=(ours, *record.directives)))


def _caa(facts: ServerFacts, caa: Caa) -> list[Wanted]:
    """Only where others already say who may issue, and leave our authority out.

    Where nobody says it anyone may, and a first record would shut out whoever else makes certificates for the name: that is a
    choice to be made by a person. Where the zone says it for all its names, one at the host itself is what counts for the host
    (RFC 8659 3), so the zone's own need not be touched.
    """
    if not facts.authority.name:
        return []
    texts: list[str] = []
    if caa.unknown:  # ours stay until they are known to be right
        texts = [text for name, text in caa.own if name == facts.hostname]
    elif not lets_in(caa.records, facts.authority) and not not_understood(caa.records):
        texts = [value(facts.authority, caa.records)]
    where = "here" if caa.name == facts.hostname else f"at {caa.name or 'a name above'}"
    purpose = f"CAA: records {where} say who may make certificates; this one lets our authority, for this host alone"
    return [Wanted("caa", facts.hostname, "CAA", text, purpose, "merge") for text in texts if text]


def tlsa_name(port: int, hostname: str) -> str:
    """Where the TLSA records of a port are (RFC 6698 3)."""
    return f"_{port}._tcp.{hostname}"


def tlsa_value(digest: str) -> str:
    """A record that names a key itself: whoever signed it and for how long does not count (RFC 7671 5.1, RFC 7672 3.1.1)."""
    return f"3 1 1 {digest}"


def _tlsa(facts: ServerFacts, existing: ServerExisting) -> tuple[list[Wanted], dict[int, str]]:
    """With the ports that get none, and why."""
    if not facts.keys:
        return [], dict.fromkeys(facts.ports, f"no TLSA records: {facts.why_no_key}")
    if existing.trust != "secure" and not (existing.trust in ("bogus", "unknown") and any(existing.ours.values())):
        return [], dict.fromkeys(facts.ports, f"no TLSA records: {_distrust(existing.trust, facts.hostname)}")
    made: list[Wanted] = []
    unnamed: dict[int, str] = {}
    for port in facts.ports:
        shown = existing.shown.get(port, "")
        if shown and shown not in facts.keys and tlsa_value(shown) not in existing.ours.get(port, frozenset()):
            unnamed[port] = f"no TLSA record for port {port}: another certificate than ours is shown there"
            continue
        for place, digest in enumerate(facts.keys):
            purpose = "TLSA: names the key that is shown, so that senders with DANE demand it"
            if place:
                purpose = "TLSA: names the key that is shown next; the DNS has to tell of it first"
            check = f"tlsa-next:{port}" if place else f"tlsa:{port}"
            made.append(Wanted(check, tlsa_name(port, facts.hostname), "TLSA", tlsa_value(digest), purpose))
    return made, unnamed


def _distrust(trust: str, hostname: str) -> str:
    return {
        "": "whether the zone is signed is not known; name a resolver that validates DNSSEC (dns.validator)",
        "insecure": f"the zone of {hostname} is not signed, and without DNSSEC nobody may believe them (RFC 7672 2.2)",
        "bogus": f"DNSSEC of the zone of {hostname} is broken",
    }.get(trust, "the resolver that validates gives no answer")
