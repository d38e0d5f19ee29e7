"""Reading the CAA records that speak for a host, as an authority does. What they mean is said in ``policy.caa``."""

from __future__ import annotations

from collections.abc import Iterable

from mailfleet.mail.address import is_within
from mailfleet.mail.dmarc import organizational_domain
from mailfleet.net.authoritative import Authoritative
from mailfleet.policy.caa import Caa, climb
from mailfleet.store.dns import OwnRecord


async def read_caa(dns: Authoritative, host: str, own: Iterable[OwnRecord]) -> Caa:
    """Its own, or the closest above (RFC 8659 3); at each name an alias is followed, and what is above its target does not count."""
    ours = tuple((one.name, one.value) for one in own if one.type == "CAA")
    registered = organizational_domain(host)
    found = Caa(host=host, own=ours)
    for name in climb(host):
        if not is_within(name, registered):
            # A registry's, which hardly ever has any: not worth a question to each of its servers
            at, records = name, await dns.remembered(name, "CAA")
            answers = [("", records)]
        else:
            asked = await dns.ask(name, "CAA")
            if not asked.answers:
                return found._replace(unknown=f"{name}: {asked.why}")
            at, records = asked.owner, asked.records
            answers = [(f"{one.server} ({one.address})", one.records) for one in asked.answers]
        if not records:
            continue
        if not found.seen:
            found = found._replace(seen_at=at, seen=tuple(answers))
        others = tuple(text for text in records if (at, text) not in ours)
        if others:
            return found._replace(name=at, records=others)
    return found
