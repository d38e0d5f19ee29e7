"""Who may make certificates, by CAA records (RFC 8659, RFC 8657): what an authority finds for a host, and what would let ours in.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mailfleet.mail.address import is_within
from mailfleet.mail.dmarc import organizational_domain

CRITICAL = 128  # of flags: who does not know the property makes no certificate (RFC 8659 4.1)
KNOWN = frozenset({"issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"})
ACCOUNT, METHODS = "accounturi", "validationmethods"  # RFC 8657 3 and 4


class Issuer(NamedTuple):
    """Who makes our certificates: its name in CAA records, its directory, our account there, and how hosts are proved (RFC 8657).

    Without a name none is asked. ``account`` is empty until there is one; without ``methods`` any will do.
    """

    name: str = ""
    directory: str = ""
    account: str = ""
    methods: tuple[str, ...] = ()


class Caa(NamedTuple):
    """The CAA records that speak for a host (RFC 8659 3), and the name that has them; ours are not among them.

    ``seen_at`` and ``seen``: the name whose records an authority finds, ours too, as ``(server, records)``. ``own``: records of
    ours, as ``(name, value)``. ``unknown``: why nothing is known.
    """

    name: str = ""
    records: tuple[str, ...] = ()
    host: str = ""
    seen_at: str = ""
    seen: tuple[tuple[str, tuple[str, ...]], ...] = ()
    own: tuple[tuple[str, str], ...] = ()
    unknown: str = ""


NOBODY = Issuer()


def climb(host: str) -> list[str]:
    """The names whose records are looked for, in this order: the first that has some is the one that counts."""
    labels = host.lower().rstrip(".").split(".")
    return [".".join(labels[place:]) for place in range(len(labels))]


class Granted(NamedTuple):
    """Whom a record lets issue, an empty name for nobody, and on which terms (RFC 8659 4.2)."""

    name: str
    terms: dict[str, str]

    def refuses(self, authority: Issuer) -> str:
        """Why the one that is named may not issue for us; empty where it may."""
        if self.terms.get(ACCOUNT, authority.account) != authority.account:
            return f"only for the account {self.terms[ACCOUNT]}"
        allowed = {one.strip() for one in self.terms.get(METHODS, "").lower().split(",")}
        if METHODS in self.terms and authority.methods and not allowed & set(authority.methods):
            return f"only by {self.terms[METHODS]}"
        return ""


def issuers(records: Sequence[str]) -> list[Granted]:
    """Who may issue by CAA records as text. ``issuewild`` is for names with ``*`` only."""
    words = [text.split(" ", 2) for text in records]
    return [_granted(one[2].strip('"')) for one in words if len(one) == 3 and one[1].lower() == "issue"]


def not_understood(records: Sequence[str]) -> list[str]:
    """Records that keep every authority from issuing which does not know what they mean."""
    words = [(text, text.split(" ", 2)) for text in records]
    return [
        text
        for text, (flags, tag, *_) in words
        if flags.isdigit() and int(flags) & CRITICAL and tag.lower() not in KNOWN
    ]


def lets_in(records: Sequence[str], authority: Issuer) -> bool:
    """Whether an authority may issue by a set of records; one that names nobody shuts nobody out."""
    if not_understood(records):
        return False
    return not issuers(records) or any(not one.refuses(authority) for one in _naming(records, authority))


def shuts_out(records: Sequence[str], authority: Issuer) -> list[str]:
    """What keeps it from issuing where it is named, in words."""
    unknown = [f"a property that is marked critical and unknown: {text}" for text in not_understood(records)]
    return unknown + [why for one in _naming(records, authority) if (why := one.refuses(authority))]


def _naming(records: Sequence[str], authority: Issuer) -> list[Granted]:
    return [one for one in issuers(records) if one.name == authority.name.lower()]


def _granted(text: str) -> Granted:
    name, *parameters = (part.strip() for part in text.split(";"))
    terms: dict[str, str] = {}
    for one in filter(None, parameters):
        tag, is_one, value = (part.strip() for part in one.partition("="))
        if not is_one or not tag.replace("-", "").isalnum() or len(value.split()) > 1:
            return Granted("", {})  # what cannot be read lets nobody in
        terms[tag.lower()] = value
    return Granted(name.lower(), terms)


def place(caa: Caa, domain: str) -> str:
    """Where a record that lets our authority in for a host of a domain belongs: beside those that shut it out.

    A set of our own closer to the host would shut out whoever the others name. Only where the others are above every name that is
    anybody's own, it is at the domain.
    """
    if is_within(domain, caa.name) and not is_within(caa.name, organizational_domain(domain)):
        return domain
    return caa.name


def value(authority: Issuer, records: Sequence[str] = ()) -> str:
    """The record that lets an authority in; on no wider terms than it is named on in ``records``. Empty where none would do yet."""
    named_on = {term for one in _naming(records, authority) for term in one.terms}
    terms = [authority.name]
    if ACCOUNT in named_on:
        if not authority.account:
            return ""
        terms.append(f"{ACCOUNT}={authority.account}")
    if METHODS in named_on and authority.methods:
        terms.append(f"{METHODS}={','.join(authority.methods)}")
    return f'0 issue "{"; ".join(terms)}"'
