"""Who is at the other end of a connection that came in."""

from __future__ import annotations

import asyncio
from typing import Any


def describe_tls(transport: asyncio.BaseTransport) -> str:
    """Version and cipher, for example ``TLSv1.3 TLS_AES_256_GCM_SHA384``."""
    tls_object = transport.get_extra_info("ssl_object")
    return f"{tls_object.version()} {tls_object.cipher()[0]}"


def ip_of(peername: Any) -> str:
    """The address of a peer without scope; IPv4 that came in over an IPv6 socket is IPv4."""
    return str(peername[0]).partition("%")[0].removeprefix("::ffff:")
