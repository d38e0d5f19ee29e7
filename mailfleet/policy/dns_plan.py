"""What the DNS must hold for a sending domain: every record, with its purpose. Pure; whether it is there is another's question."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple
from urllib.parse import quote

from mailfleet.mail.address import is_within
from mailfleet.mail.dmarc import DmarcRecord, DmarcSyntaxError, Policy, is_stricter
from mailfleet.mail.dmarc import parse as parse_dmarc
from mailfleet.mail.mta_sts import StsPolicy
from mailfleet.mail.spf_macro import SpfSyntaxError, parse_domain_spec
from mailfleet.mail.spf_record import MAX_LOOKUPS, Directive, SpfRecord, is_spf, parse
from mailfleet.policy.caa import NOBODY, Caa, Issuer, lets_in, not_understood, place, value

Manner = Literal["own", "merge", "leave"]
MAX_STRING = 255  # octets in one character-string (RFC 1035 3.3); a TXT record is several of them


class Wanted(NamedTuple):
    """A record. ``manner``: the name is ours; it is shared, and what others have there stays; or it is left when something is there.

    ``check`` is what the check is called that looks after it.
    """

    check: str
    name: str
    type: str
    value: str
    purpose: str
    manner: Manner = "own"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan is made from. ``hostname``: this server's name. ``keys``: ``(selector, public record)``.

    ``addresses``: of every source that the domain's mail may leave from; ``names``: of those whose address is known by their name
    only, or to the system.
    """

    domain: str
    return_path_host: str
    hostname: str
    keys: tuple[tuple[str, str], ...]
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    dmarc_policy: Policy = "none"
    dmarc_reports_to: str = ""
    mta_sts: StsPolicy | None = None  # its own, for mail that comes to it
    tls_reports_to: str = ""  # an address or a page
    public_host: str = ""
    bimi_logo: str = ""  # where it is; as ``bimi_evidence``
    bimi_evidence: str = ""
    next_keys: frozenset[str] = frozenset()  # selectors of those that do not sign yet
    authority: Issuer = NOBODY  # of certificates
    hosts: tuple[str, ...] = ()  # that certificates are made for


class Existing(NamedTuple):
    """What others have published at names that are shared. ``spf_lookups``: what the SPF record there needs already.

    ``caa``: of each host that certificates are made for. ``behind``: the addresses that names of sources lead to, where these are so
    many that their look-ups would be too many.
    """

    spf: str = ""
    spf_lookups: int = 0
    dmarc: str = ""
    caa: tuple[Caa, ...] = ()
    behind: Mapping[str, tuple[str, ...]] = MappingProxyType({})


NOTHING = Existing()


def plan(facts: Facts, existing: Existing = NOTHING) -> list[Wanted]:
    """Every record, those first that mail cannot do without."""
    made = [
        Wanted(
            f"dkim:{selector}",
            f"{selector}._domainkey.{facts.domain}",
            "TXT",
            record,
            "DKIM: the public half of a key that signs mail",
        )
        for selector, record in facts.keys
    ]
    made += [
        Wanted(
            "return-path-mx",
            facts.return_path_host,
            "MX",
            f"10 {facts.hostname}.",
            "return-path: where late bounces come back to",
        ),
        Wanted(
            "spf-return-path",
            facts.return_path_host,
            "TXT",
            str(SpfRecord((*terms(facts, existing), Directive("-", "all")))),
            "SPF of the return-path: who may send, and nobody else",
        ),
    ]
    merged = merged_spf(facts, existing)
    if merged:
        purpose = "SPF of the domain itself, for receivers and tools that look there"
        made.append(Wanted("spf-from", facts.domain, "TXT", merged, purpose, "merge"))
    return [*made, _dmarc(facts, existing), *_shown(facts), *_caa(facts, existing)]


def _dmarc(facts: Facts, existing: Existing) -> Wanted:
    """What others have there stays, but for a policy that is milder than what is set, and reports that are to come here."""
    purpose = "DMARC: Gmail, Yahoo and Microsoft want one from bulk senders; p=none is the start"
    merged = merged_dmarc(facts, existing)
    manner: Manner = "leave" if merged in ("", existing.dmarc) else "merge"
    return Wanted("dmarc", f"_dmarc.{facts.domain}", "TXT", merged or str(dmarc(facts)), purpose, manner)


def _shown(facts: Facts) -> list[Wanted]:
    """What the domain says of its own mail hosts, and the hosts that we show something under."""
    domain, made = facts.domain, []
    ours = f"{facts.hostname}."
    if facts.mta_sts is not None:
        record = f"v=STSv1; id={facts.mta_sts.number}"
        purpose = "MTA-STS: mail to the domain goes over verified TLS only; changes when the policy does"
        made.append(Wanted("mta-sts", f"_mta-sts.{domain}", "TXT", record, purpose))
        purpose = "the host that shows the MTA-STS policy"
        made.append(Wanted("mta-sts-host", f"mta-sts.{domain}", "CNAME", ours, purpose))
    if facts.tls_reports_to:
        uri = facts.tls_reports_to
        record = f"v=TLSRPTv1; rua={uri if uri.startswith('https:') else _mailto(uri)}"
        purpose = "TLS-RPT: others report here how TLS to the domain's mail hosts went"
        made.append(Wanted("tls-rpt", f"_smtp._tls.{domain}", "TXT", record, purpose))
    if facts.public_host:
        made.append(Wanted("public-host", facts.public_host, "CNAME", ours, "the host that shows the domain's files"))
    if facts.bimi_logo:
        record = f"v=BIMI1; l={facts.bimi_logo}; a={facts.bimi_evidence}"
        purpose = "BIMI: the logo that mailbox providers may show beside mail that passes DMARC"
        made.append(Wanted("bimi", f"default._bimi.{domain}", "TXT", record, purpose))
    return made


def _caa(facts: Facts, existing: Existing) -> list[Wanted]:
    """Where CAA records say who may issue certificates, our authority has to be among them (RFC 8659 4.2).

    Not at the target of an alias that is elsewhere: what stands there is not the domain's.
    """
    if not facts.authority.name:
        return []
    purpose = "CAA: lets our certificate authority make certificates for the domain's hosts"
    there: list[tuple[str, str]] = []
    for one in existing.caa:
        if one.unknown:
            there += one.own  # what is there stays until it is known to be right
        elif not lets_in(one.records, facts.authority):
            name, text = place(one, facts.domain), value(facts.authority, one.records)
            if (
                text
                and not not_understood(one.records)
                and (is_within(name, facts.domain) or is_within(facts.domain, name))
            ):
                there.append((name, text))
    return [Wanted("caa", name, "CAA", text, purpose, "merge") for name, text in dict.fromkeys(there)]


def terms(facts: Facts, existing: Existing) -> tuple[Directive, ...]:
    """The mechanisms that let every source send: addresses themselves, which need no look-up, where they are known."""
    found: list[Directive] = []
    texts = [*facts.addresses, *(text for name in facts.names for text in existing.behind.get(name, ()))]
    addresses = [ipaddress.ip_address(one) for one in texts]
    four = [ipaddress.IPv4Network(one) for one in addresses if isinstance(one, ipaddress.IPv4Address)]
    six = [ipaddress.IPv6Network(one) for one in addresses if isinstance(one, ipaddress.IPv6Address)]
    found += [Directive("+", "ip4", network=network) for network in ipaddress.collapse_addresses(four)]
    found += [Directive("+", "ip6", network=network) for network in ipaddress.collapse_addresses(six)]
    names = [one for one in facts.names if not existing.behind.get(one)]
    names = names or ([] if found else [facts.hostname])
    return (*found, *(Directive("+", "a", parse_domain_spec(name)) for name in names))


def merged_spf(facts: Facts, existing: Existing) -> str:
    """The domain's own record with ours in it; empty where what is there cannot be read, and so must not be touched.

    It includes the return-path's, so that a new source changes one record only; where that would need more look-ups than are
    allowed, the addresses stand in it themselves.
    """
    ours: tuple[Directive, ...] = (Directive("+", "include", parse_domain_spec(facts.return_path_host)),)
    if not existing.spf:
        return str(SpfRecord((*ours, Directive("~", "all"))))
    try:
        record = parse(existing.spf)
    except SpfSyntaxError:
        return ""
    if any(one.mechanism == "include" and one.domain == ours[0].domain for one in record.directives):
        return existing.spf
    nested = sum(1 for one in terms(facts, existing) if one.network is None)
    if existing.spf_lookups + 1 + nested > MAX_LOOKUPS:
        ours = tuple(one for one in terms(facts, existing) if one not in record.directives)
        if not ours:
            return existing.spf
    place = next(
        (index for index, one in enumerate(record.directives) if one.mechanism == "all"), len(record.directives)
    )
    return str(replace(record, directives=(*record.directives[:place], *ours, *record.directives[place:])))


def merged_dmarc(facts: Facts, existing: Existing) -> str:
    """Another's record with our policy and address in it, where it is milder or lacks it; empty where there is none."""
    try:
        record = parse_dmarc(existing.dmarc)
    except DmarcSyntaxError:
        return ""
    ours = dmarc(facts)
    higher = is_stricter(ours.policy, record.policy)
    known = {one.lower() for one in record.aggregate_to}
    more = tuple(one for one in ours.aggregate_to if one.lower() not in known)
    if not (higher or more):
        return existing.dmarc
    policy = ours.policy if higher else record.policy
    return str(replace(record, policy=policy, aggregate_to=(*record.aggregate_to, *more)))


def dmarc(facts: Facts) -> DmarcRecord:
    """The record at the stage that the domain is at."""
    to = (_mailto(facts.dmarc_reports_to),) if facts.dmarc_reports_to else ()
    return DmarcRecord(facts.dmarc_policy, aggregate_to=to)


def _mailto(address: str) -> str:
    """RFC 6068 2; ``!``, ``,`` and ``;`` mean something to who reads the record (RFC 7489 6.2, RFC 8460 3)."""
    return "mailto:" + quote(address, safe="@+=/'$&*")


def never_sends(domain: str) -> list[Wanted]:
    """For a domain that sends and receives nothing: nobody can speak in its name (RFC 7208 10.1.2, RFC 7489, RFC 7505)."""
    return [
        Wanted("spf-from", domain, "TXT", "v=spf1 -all", "SPF: nobody may send"),
        Wanted("dkim:*", f"*._domainkey.{domain}", "TXT", "v=DKIM1; p=", "DKIM: every key is revoked (RFC 6376 3.6.1)"),
        Wanted(
            "dmarc",
            f"_dmarc.{domain}",
            "TXT",
            "v=DMARC1; p=reject; sp=reject",
            "DMARC: refuse what claims to be from it",
        ),
        Wanted("null-mx", domain, "MX", "0 .", "it takes no mail"),
    ]


def zone_text(records: Iterable[Wanted], ttl_s: int) -> str:
    """As lines of a zone file, TXT in pieces of 255 octets."""
    return "".join(f"{one.name}. {ttl_s} IN {one.type} {rdata_text(one.type, one.value)}\n" for one in records)


def rdata_text(kind: str, value: str) -> str:
    """The value as a zone file has it."""
    if kind != "TXT":
        return value
    escaped = [piece.replace("\\", "\\\\").replace('"', '\\"') for piece in pieces(value)]
    return " ".join(f'"{piece}"' for piece in escaped)


def pieces(value: str) -> list[str]:
    """A TXT value in strings of at most 255 octets; ASCII, as every record here is."""
    return [value[at : at + MAX_STRING] for at in range(0, len(value), MAX_STRING)] or [""]


def speaks_for_spf(records: Sequence[str]) -> list[str]:
    """The SPF records among TXT records."""
    return [text for text in records if is_spf(text)]
