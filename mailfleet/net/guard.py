"""Where a connection may go. Asked before every connect, so that a sandbox or test network cannot mail strangers."""

from __future__ import annotations

import ipaddress

from mailfleet.base.errors import MailfleetError


class ForbiddenDestinationError(MailfleetError):
    """This address must not be connected to. The message is a sentence for people."""


def check_destination(ip: str, *, loopback_only: bool) -> None:
    """Raise ``ForbiddenDestinationError`` unless ``ip`` is one host's address and, with ``loopback_only``, on this machine."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        raise ForbiddenDestinationError(f"{ip!r} is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified or address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        raise ForbiddenDestinationError(f"{ip} is not the address of a host")
    if loopback_only and not address.is_loopback:
        raise ForbiddenDestinationError(f"{ip} is not on this machine, and delivery is limited to loopback")


def is_loopback(host: str) -> bool:
    """Whether a host that somebody named is this machine, by its address or as ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
