"""Records as the form of a DNS provider wants them typed: which field takes what, and in which spelling. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mailfleet.mail.address import is_within
from mailfleet.policy.dns_plan import Wanted, rdata_text

LABELS = {
    "type": "Type", "name": "Name", "value": "Value", "priority": "Priority", "ttl": "TTL",
    "caa_flags": "Flags", "caa_tag": "Tag", "caa_value": "CA",
    "tlsa_usage": "Usage", "tlsa_selector": "Selector", "tlsa_matching": "Matching type", "tlsa_data": "Certificate",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """How a provider wants records.

    ``host``: names without the zone (``relative``), or whole with a dot at the end (``absolute``). ``apex`` is what stands for the
    zone itself in a relative name. ``dot``: host names in values end with a dot. ``txt``: as it is (``plain``), or in quotes with a
    person dividing it into strings of 255 (``split``). ``apart``: types whose value has a field for each part. ``missing``: types
    that it does not have; ``unsure``: of which that is not known. ``labels``: what it calls its fields, of ``LABELS``, for all types
    or for one (``MX.value``).
    """

    name: str
    label: str
    host: Literal["relative", "absolute"]
    apex: str
    dot: bool
    txt: Literal["plain", "split"]
    ttl_min_s: int
    page: str
    seen: str
    apart: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


class Filled(NamedTuple):
    """A form filled in: ``(label, value)`` in the order of the form. ``note``: what else to know of this record."""

    fields: tuple[tuple[str, str], ...]
    note: str = ""


def fill(form: Form, wanted: Wanted, zone: str, ttl_s: int) -> Filled:
    """``zone``: the one that the record is in; names of another zone are given whole."""
    if wanted.type == "PTR":
        return Filled(
            (("Address", address_of(wanted.name)), ("Name", wanted.value.rstrip("."))),
            "a reverse name is set where the address is rented (reverse DNS, rDNS or PTR), not in the zone of the domain",
        )
    made = [("type", wanted.type), ("name", host_of(form, wanted.name, zone)), *_values(form, wanted)]
    made.append(("ttl", str(max(ttl_s, form.ttl_min_s))))
    note = ""
    if wanted.type in form.missing:
        note = f"{form.label} has no {wanted.type} records: leave it out, or have the zone served by someone who has"
    elif wanted.type in form.unsure:
        note = f"whether {form.label} has {wanted.type} records is not known here: look at its list of types"
    return Filled(tuple((_label(form, wanted.type, name), value) for name, value in made), note)


def _label(form: Form, kind: str, name: str) -> str:
    return form.labels.get(f"{kind}.{name}") or form.labels.get(name) or LABELS[name]


def host_of(form: Form, name: str, zone: str) -> str:
    """A name as the form takes it."""
    if form.host == "absolute":
        return f"{name}."
    if not zone or not is_within(name, zone):
        return name
    return form.apex if name == zone else name.removesuffix(f".{zone}")


def address_of(reverse_name: str) -> str:
    """``2.2.0.192.in-addr.arpa`` -> ``192.0.2.2``; a name that is none comes back as it is."""
    labels = reverse_name.lower().rstrip(".").split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"]:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:-2]))))
        if labels[-2:] == ["ip6", "arpa"]:
            return str(ipaddress.IPv6Address(int("".join(reversed(labels[:-2])), 16)))
    except ValueError:
        pass
    return reverse_name


def _values(form: Form, wanted: Wanted) -> list[tuple[str, str]]:
    kind, value = wanted.type, wanted.value
    if kind == "TXT":
        return [("value", rdata_text("TXT", value) if form.txt == "split" else value)]
    if kind == "MX":
        priority, _, host = value.partition(" ")
        if kind in form.apart:
            return [("priority", priority), ("value", _target(form, host))]
        return [("value", f"{priority} {_target(form, host)}")]
    if kind == "CNAME":
        return [("value", _target(form, value))]
    if kind == "CAA" and kind in form.apart:
        flags, tag, ca = value.split(" ", 2)
        return [("caa_flags", flags), ("caa_tag", tag), ("caa_value", ca.strip('"'))]
    if kind == "TLSA" and kind in form.apart:
        return list(
            zip(("tlsa_usage", "tlsa_selector", "tlsa_matching", "tlsa_data"), value.split(" ", 3), strict=True)
        )
    return [("value", value)]


def _target(form: Form, host: str) -> str:
    """A host name in a value; the root (of a null MX) stays as it is."""
    bare = host.rstrip(".")
    return f"{bare}." if form.dot or not bare else bare
