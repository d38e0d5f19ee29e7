"""The sandbox as one object: DNS and all providers, started and stopped together, on loopback and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Mapping

from mailfleet.base.clock import Clock
from mailfleet.base.errors import ConfigError
from mailfleet.config.models import load_model
from mailfleet.config.settings import Settings
from mailfleet.policy.warmup import day_number
from mailfleet.sandbox import catalogue, certificate, journal
from mailfleet.sandbox.catalogue import EVERY_OTHER_DOMAIN
from mailfleet.sandbox.dns_server import Answerer, DnsServer, port_error
from mailfleet.sandbox.memory import Memory
from mailfleet.sandbox.provider import Desk, Provider
from mailfleet.sandbox.published import Published
from mailfleet.sandbox.session import Session
from mailfleet.sandbox.signatures import SignatureCheck
from mailfleet.sandbox.spool import SpoolWriter
from mailfleet.sandbox.zone import Zone

_IDLE_S = 300.0  # RFC 5321 4.5.3.2.7
_SWEEP_S = 15.0
_GOODBYE_S = 2.0


class SandboxServer:
    """The sandbox of one data folder.

    ``rates`` (``{provider: {manner: share}}``, see ``catalogue.load``) stands in for ``DATA/sandbox/rates.toml``; ``{"*": {}}``
    leaves every decision to the local-parts. Raises ``ConfigError`` for addresses that are not loopback.
    """

    def __init__(
        self, settings: Settings, clock: Clock, *, rates: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._specs = catalogue.load(settings.data, rates)
        self.addresses = catalogue.provider_addresses(self._specs, settings.sandbox.address_base)
        self._published = Published(settings.data)
        self._sessions: set[Session] = set()
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._desk: Desk | None = None
        self._dns: DnsServer | None = None

    async def start(self) -> None:
        """Rebuild the state from the log, then listen. Raises ``ConfigError`` naming a port that is taken; nothing is left open."""
        sandbox = self._settings.sandbox
        zone = Zone(self._specs, sandbox.address_base, self._published)
        self._dns = DnsServer(Answerer(zone, self._published), sandbox.dns_port)
        hosts = [host for spec in self._specs for group, _ in spec.mx for host in group]
        tls = certificate.server_context(hosts, self._clock.now_ms())
        try:
            # Ports first: whoever holds them also writes the log.
            await self._dns.start()
            self._desk = self._open_desk()
            for spec in self._specs:
                await self._listen(Provider(spec, self._desk), tls if spec.starttls else None)
        except BaseException:
            await self.stop()
            raise
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def stop(self) -> None:
        """Say 421 to every client and close; harmless when not started."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._dns is not None:
            await self._dns.stop()
        for session in list(self._sessions):
            session.close(b"421 4.3.2 Service shutting down, closing transmission channel\r\n")
        if self._sessions:
            await asyncio.wait([session.gone for session in self._sessions], timeout=_GOODBYE_S)
        for session in list(self._sessions):
            session.abort()
            session.connection_lost(None)  # nothing may be recorded any more
        if self._desk is not None:
            self._desk.log.close()
            self._desk.spool.close()
            self._desk = None

    def _open_desk(self) -> Desk:
        sandbox = self._settings.sandbox
        memory = Memory(sandbox.time_scale)
        log = journal.JournalWriter(self._settings.data)
        memory.apply(decision for _, decision in journal.read(self._settings.data))
        return Desk(
            clock=self._clock,
            seed=sandbox.seed,
            time_scale=sandbox.time_scale,
            memory=memory,
            log=log,
            spool=SpoolWriter(self._settings.data, sandbox.keep_mail_mb * 1_048_576),
            signatures=SignatureCheck(self._published),
            provider_of_domain={
                domain: spec.name
                for spec in self._specs
                for _, domains in spec.mx
                for domain in domains
                if domain != EVERY_OTHER_DOMAIN
            },
            model=load_model(sandbox.model, sandbox.seed) if sandbox.model else None,
            model_from_h=day_number(self._clock.now_ms(), sandbox.time_scale) * 24.0,
        )

    async def _listen(self, provider: Provider, tls: ssl.SSLContext | None) -> None:
        host, port = self.addresses[provider.spec.name], self._settings.sandbox.smtp_port
        if not ipaddress.ip_address(host).is_loopback:
            raise ConfigError(f"{host} is not loopback", where="sandbox.address_base", mend="for example 127.0.10.0")
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: Session(provider, tls, self._sessions), host, port, backlog=1024
            )
        except OSError as error:
            raise port_error(error, host, port, "sandbox.smtp_port") from None
        self._servers.append(server)

    async def _sweep(self) -> None:
        """Hang up on clients that have been silent for long."""
        loop = asyncio.get_running_loop()
        while True:
            await self._clock.sleep(_SWEEP_S)
            for session in list(self._sessions):
                if loop.time() - session.last_heard_s > _IDLE_S:
                    session.close(b"421 4.4.2 Timeout, closing connection\r\n")
