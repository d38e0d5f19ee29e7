"""Who may make certificates, by CAA records (RFC 8659): what an authority finds for a host, and what would let ours in. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mailfleet.mail.dmarc import organizational_domain


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


def climb(host: str) -> list[str]:
    """The names whose records are looked for, in this order: the first that has some is the one that counts."""
    labels = host.lower().rstrip(".").split(".")
    return [".".join(labels[place:]) for place in range(len(labels))]


def issuers(records: Sequence[str]) -> list[str]:
    """Who may issue by CAA records as text (RFC 8659 4.2), without parameters. ``issuewild`` is for names with ``*`` only."""
    words = [text.split(" ", 2) for text in records]
    return [
        one[2].strip('"').partition(";")[0].strip().lower()
        for one in words
        if len(one) == 3 and one[1].lower() == "issue"
    ]


def lets_in(records: Sequence[str], authority: str) -> bool:
    """Whether an authority may issue by a set of records; one that names nobody shuts nobody out."""
    found = issuers(records)
    return not found or authority.lower() in found


def under(name: str, above: str) -> bool:
    """Whether a name is another or below it."""
    return name == above or name.endswith(f".{above}")


def place(caa: Caa, domain: str) -> str:
    """Where a record that lets our authority in for a host of a domain belongs: beside those that shut it out.

    A set of our own closer to the host would shut out whoever the others name. Only where the others are above every name that is
    anybody's own, it is at the domain.
    """
    if under(domain, caa.name) and not under(caa.name, organizational_domain(domain)):
        return domain
    return caa.name


def value(authority: str) -> str:
    """The record that lets an authority in."""
    return f'0 issue "{authority}"'
