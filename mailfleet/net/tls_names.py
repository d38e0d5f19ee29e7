"""Which certificate a listener shows: by the name that the client asks for (SNI), exchanged while connections go on."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence

from mailfleet.policy.certificates import covers


class TlsNames:
    """One listener's contexts. ``context`` is what connections begin with; handshakes after ``use`` see what it gave."""

    def __init__(self, fallback: ssl.SSLContext, hostname: str, protocols: Sequence[str] = ()) -> None:
        self._fallback, self._hostname, self._protocols = fallback, hostname, list(protocols)
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._pairs: dict[str, tuple[str, bytes]] = {}  # what they were made from
        self._default = fallback
        self.context = fallback
        self.context.sni_callback = self._choose
        if self._protocols:
            fallback.set_alpn_protocols(self._protocols)

    def use(self, pairs: Mapping[str, tuple[str, bytes]]) -> list[str]:
        """From now on: ``{name: (chain, key)}``, PEM. Returns the names whose pair cannot be loaded; these go on as they were.

        Raises ``OSError`` when there are no descriptors left; then everything goes on as it was.
        """
        made, wrong = {}, []
        for name, (chain, key) in pairs.items():
            if self._pairs.get(name) == (chain, key):
                made[name] = self._by_name[name]
                continue
            try:
                made[name] = context = loaded_context(chain, key)
                if self._protocols:
                    context.set_alpn_protocols(self._protocols)
            except (ssl.SSLError, ValueError):
                wrong.append(name)
                if name in self._by_name:
                    made[name] = self._by_name[name]
        self._by_name = made
        self._pairs = {name: pairs[name] for name in made if name not in wrong}
        self._default = self._of(self._hostname) or self._fallback
        return wrong

    def replace_fallback(self, chain: str, key: bytes) -> None:
        """What is shown where nothing else fits. Raises ``ssl.SSLError``; then it stays as it was."""
        context = loaded_context(chain, key)
        if self._protocols:
            context.set_alpn_protocols(self._protocols)
        self._fallback = context
        self._default = self._of(self._hostname) or context

    def _of(self, name: str) -> ssl.SSLContext | None:
        found = self._by_name.get(name)
        if found is not None:
            return found
        return next((context for pattern, context in self._by_name.items() if covers(pattern, name)), None)

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        found = self._of(name.lower().rstrip(".")) if name else None
        connection.context = found or self._default
        return None


def bare_context() -> ssl.SSLContext:
    """For a server, TLS 1.2 or newer, without a certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def loaded_context(chain: str, key: bytes) -> ssl.SSLContext:
    """With a certificate from memory: the ssl module loads files only, and a key must not lie on a disk. Raises ``ssl.SSLError``."""
    context = bare_context()
    descriptor = os.memfd_create("tls")
    try:
        os.write(descriptor, key.strip() + b"\n" + chain.encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)
    return context
