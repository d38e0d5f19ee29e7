"""Single records in record sets of octoDNS: what is asked for is put in, what others have there stays as it is.

octoDNS keeps the text of a TXT with every semicolon escaped, and what providers do with other escapes differs. So values of
others are handed through untouched, and only compared in a form in which all of these are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import dns.exception
import dns.rdata

from mailfleet.mail.address import is_within
from mailfleet.net.dns_update import Change, DnsUpdateError, Guard

Place = tuple[str, str]  # a name relative to the zone (empty: the zone itself), and a type
_DECIMAL = re.compile(rb"\\([01]\d\d|2[0-4]\d|25[0-5])")
_PLAIN = re.compile(r"[ !#-\[\]-~]*")  # ASCII that no provider escapes, semicolons aside


def put(zone: Any, changes: Iterable[Change], guards: Sequence[Guard], ttl_s: int) -> set[Place]:
    """Change ``zone`` (an ``octodns.zone.Zone``) as asked; returns the record sets that are not as they were.

    A set that is ours alone gets ``ttl_s``, one that is shared keeps its own. Raises ``DnsUpdateError``: a guard does not hold,
    or what is asked for cannot stand there. Adding what is there and removing what is not there changes nothing.
    """
    for guard in guards:
        there = set(_values(_record(zone, (_relative(zone, guard.name), guard.type))))
        if guard.rdatas and there != {_key(guard.type, one) for one in guard.rdatas}:
            raise DnsUpdateError(f"{guard.name} {guard.type}: the zone has changed meanwhile: look again")
    asked: dict[Place, list[Change]] = {}
    for change in changes:
        asked.setdefault((_relative(zone, change.name), change.type), []).append(change)
    touched = {place for place, some in asked.items() if _put_set(zone, place, some, ttl_s)}
    for name in {name for name, _ in touched}:
        kinds = {record._type for record in zone.get(name)}
        if "CNAME" in kinds and len(kinds) > 1:  # RFC 1034 3.6.2
            others = ", ".join(sorted(kinds - {"CNAME"}))
            where = f"{name}.{zone.name}".strip(".")
            raise DnsUpdateError(f"{where}: a CNAME cannot stand beside {others}: take one of them away")
    return touched


def same(one: Any, other: Any) -> bool:
    """Whether two records of octoDNS (or None) hold the same."""
    return set(_values(one)) == set(_values(other))


def _put_set(zone: Any, place: Place, changes: list[Change], ttl_s: int) -> bool:
    """Whether anything had to be changed."""
    record = _record(zone, place)
    there = _values(record)
    added = {_key(one.type, one.rdata): one for one in changes if one.action == "add"}
    removed = {_key(one.type, one.rdata) for one in changes if one.action == "remove"} - set(added)
    fresh = [one for key, one in added.items() if key not in there]
    left = [value for key, value in there.items() if key not in removed]
    if not fresh and len(left) == len(there):
        return False
    if not fresh and not left:
        zone.remove_record(record)
        return True
    made = _made(zone, place, fresh, ttl_s) if fresh else None
    if left and made is not None and not hasattr(made, "values"):
        raise DnsUpdateError(f"{fresh[0].name} {place[1]}: another one is there: look again")
    if left:
        values = [*left, *(made.values if made is not None else ())]
        made = record.copy(values=[getattr(value, "data", value) for value in values])
    zone.add_record(made, replace=True, lenient=True)
    return True


def _made(zone: Any, place: Place, changes: list[Change], ttl_s: int) -> Any:
    from octodns.record import Record, Rrset

    for one in changes:
        if one.type == "TXT" and not _PLAIN.fullmatch(one.value):
            raise DnsUpdateError(
                f"{one.name} TXT: quotes and backslashes mean different things to different providers: publish it by hand"
            )
    rrset = Rrset(f"{place[0]}.{zone.name}".lstrip("."), place[1], ttl_s, [one.rdata for one in changes])
    return Record.from_rrset(zone, rrset, lenient=True)


def _record(zone: Any, place: Place) -> Any:
    """The record set at a place, or None."""
    return next((one for one in zone.get(place[0]) if one._type == place[1]), None)


def _values(record: Any) -> dict[bytes, Any]:
    """The values of a record set, by the form in which they are compared."""
    if record is None:
        return {}
    values = record.values if hasattr(record, "values") else [record.value]
    if record._type == "TXT":
        return {_bare(str(value).replace("\\;", ";").encode()): value for value in values}
    return {_key(record._type, text): value for text, value in zip(record.to_rrset().rdatas, values, strict=True)}


def _key(kind: str, rdata: str) -> bytes:
    """A value as a zone file has it, in the form in which values are compared."""
    try:
        data = dns.rdata.from_text("IN", kind, rdata)
    except dns.exception.DNSException:
        return rdata.encode()
    if kind == "TXT":
        return _bare(b"".join(data.strings))  # type: ignore[attr-defined]  # dnspython's rdata of TXT
    return str(data).lower().rstrip(".").encode()


def _bare(text: bytes) -> bytes:
    """Without escapes, be they meant as such or not."""
    return _DECIMAL.sub(lambda found: bytes([int(found[1])]), text).replace(b"\\", b"")


def _relative(zone: Any, name: str) -> str:
    below = name.lower().rstrip(".")
    apex = zone.name.rstrip(".")
    if not is_within(below, apex):
        raise DnsUpdateError(f"{name} is not in the zone {apex}")
    return below.removesuffix(apex).rstrip(".")
