"""What a person gives for ways out, checked: names, addresses, hosts, limits, rates, streams."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from mailfleet.base.errors import InputError, NotFoundError
from mailfleet.engine.fleet_views import LimitsView
from mailfleet.engine.requests import Actor
from mailfleet.mail.address import domain_to_ascii
from mailfleet.policy.rates import parse, shown
from mailfleet.store import streams
from mailfleet.store.database import Tx
from mailfleet.store.streams import StreamRow

OTHER = "other"  # how people call the sites of no known provider
MAX_NAME = 60
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,58}[a-z0-9])?")


def rates_text(text: str, where: str) -> str:
    """Rates as they are kept. Raises ``InputError``."""
    try:
        return shown(parse(text))
    except ValueError as error:
        raise InputError(str(error), where=where, mend="for example 10/s, 1000/h, or both: 10/s 20000/d") from None


def check_name(name: str) -> None:
    """A name for a way out or pool. Raises ``InputError``."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name for a way out or pool",
            where="name",
            mend=f"use up to {MAX_NAME} small letters, digits, dots, hyphens and underscores",
        )


def address(text: str) -> str:
    """An IP address in its usual form. Raises ``InputError``."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        raise InputError(
            f"{text!r} is no IP address", where="address", mend="write it as 192.0.2.1 or 2001:db8::1"
        ) from None
    if address.is_unspecified or address.is_multicast:
        raise InputError(f"nothing can be sent from {address}", where="address", mend="give an address of this machine")
    return str(address)


def ehlo_name(text: str) -> str:
    """RFC 5321 4.1.1.1: a name that resolves; reverse DNS must agree with it."""
    try:
        name = domain_to_ascii(text.strip())
    except InputError as error:
        raise InputError(error.what, where="ehlo_name", mend="give the name that the address resolves to") from None
    if not name.startswith("[") and "." not in name:
        raise InputError(
            f"{name!r} is not a full name", where="ehlo_name", mend="give a full name, as in mail1.example.com"
        )
    return name


def host(text: str) -> str:
    """A relay's host: an address or a domain name. Raises ``InputError``."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return domain_to_ascii(text.strip())


def one_of(value: str, known: Sequence[str], where: str) -> str:
    """One of a few words. Raises ``InputError``."""
    if value not in known:
        raise InputError(f"{value!r} is not known", where=where, mend=f"one of {', '.join(known)}")
    return value


def limits(value: LimitsView) -> str:
    """Limits as they are kept. Raises ``InputError``."""
    if value.rate:
        rates_text(value.rate, "limits.rate")
    return value.model_dump_json(exclude_none=True) if value.model_dump(exclude_none=True) else ""


def relay_tls(tls: str, host: str) -> None:
    """A certificate is for a name. Raises ``InputError``."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    if tls == "verified":
        raise InputError(
            f"the certificate of {host} cannot be checked: it has no name",
            where="tls",
            mend="give the relay's host name, or set tls to required (encrypted, not checked)",
        )


def stream_row(tx: Tx, actor: Actor, name: str) -> StreamRow:
    """A stream of the actor's tenant with its settings. Raises ``NotFoundError``."""
    for one in streams.of_tenant(tx, actor.tenant_id):
        if one.name == name:
            return one
    raise NotFoundError(f"there is no stream {name!r}", where="stream", mend="see: mailfleet stream list")
