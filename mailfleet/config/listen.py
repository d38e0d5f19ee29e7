"""Addresses to listen at."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _listen_address(value: str) -> str:
    """Check ``host:port``; empty means: do not listen."""
    if value:
        split_host_port(value)
    return value


def split_host_port(value: str) -> tuple[str, int]:
    """``127.0.0.1:8025`` or ``[::1]:8025`` to its parts. Raises ``ValueError``."""
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError("write it as host:port, for example 127.0.0.1:8025 or [::1]:8025")
    return host, int(port)


Listen = Annotated[str, AfterValidator(_listen_address)]
