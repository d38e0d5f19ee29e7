"""The front role: HTTP (API and page) and SMTP submission in one process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
import uvicorn

from mailfleet.app import compose
from mailfleet.app.certificates import Shown, sites_of
from mailfleet.app.folder import DataFolder
from mailfleet.app.patience import patiently, unless_stopped
from mailfleet.app.telemetry import telemetry
from mailfleet.base.errors import ConfigError
from mailfleet.config.listen import split_host_port
from mailfleet.config.settings import Settings, Submission
from mailfleet.engine.backlog import Backlog
from mailfleet.engine.maintain import discard_unsealed
from mailfleet.engine.shared import LongReads
from mailfleet.listen.door import Door
from mailfleet.listen.http import create_app
from mailfleet.listen.http_connections import HttpConnections
from mailfleet.listen.https import HttpsListener
from mailfleet.listen.submission import SubmissionListener
from mailfleet.web import page

log = structlog.get_logger()
GRACE_S = 10
BIND_WITHIN_S = 10.0  # an earlier run may still be closing


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the role decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def connection(self) -> asyncio.Protocol:
        """For a connection that another listener took, ended with the others."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


async def run(base: compose.Base, stop: asyncio.Event) -> None:
    """Serve until ``stop``. ``connection.json`` is written when every entrance is open."""
    settings, folder = base.settings, base.folder
    reads = LongReads(base.database)
    backlog = Backlog(reads, base.clock)
    services, desk = compose.services(base, reads, backlog)
    if await unless_stopped(stop, patiently("discarding half a list", lambda: _discard(base))) is None:
        return
    app = create_app(services, settings, telemetry(base, reads, backlog))
    page.install(app, services, base.clock)
    entrances = await _Entrances.bind(settings)
    shown = Shown(settings, folder, base.hostname)
    door = Door(
        app,
        sites_of(base),
        services.certificates,
        hostname=base.hostname,
        plain=entrances.address(entrances.plain),
        tls=entrances.address(entrances.tls),
    )
    config = uvicorn.Config(
        door,
        http=HttpConnections(settings.server, base.clock, base.gauges).protocol,  # type: ignore[arg-type]  # it is only called
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
    )
    server = _Server(config)
    listener = SubmissionListener(
        desk, _submission(settings), base.hostname, shown.smtp.context, base.clock, base.gauges
    )
    address = await listener.start()
    serving = asyncio.create_task(server.serve(sockets=entrances.clear))
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    https = None
    if entrances.tls is not None:
        https = HttpsListener(entrances.tls, shown.https, services.certificates, server.connection)
        https.start()
    following = asyncio.create_task(shown.follow(services.certificates))
    try:
        _announce(folder, entrances, address)
    except OSError as error:  # what it says from an earlier start is true as long as the ports are the same
        log.error("connection.json cannot be written", reason=error.strerror)
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, waiting, following}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    following.cancel()
    if https is not None:
        await https.stop()
    await listener.stop(GRACE_S)
    await serving
    waiting.cancel()
    assert stop.is_set(), "the HTTP server ended by itself"


async def _discard(base: compose.Base) -> bool:
    await discard_unsealed(base.database)
    return True


def _submission(settings: Settings) -> Submission:
    """The sandbox lets plain clients on this machine log in, so that any of them can be tried."""
    if not settings.sandbox.enabled:
        return settings.submission
    return settings.submission.model_copy(update={"auth_without_tls_on_loopback": True})


@dataclass(frozen=True, slots=True)
class _Entrances:
    """Sockets that listen: for the control room, for HTTPS, and what sends on to HTTPS."""

    http: socket.socket
    tls: socket.socket | None
    plain: socket.socket | None

    @classmethod
    async def bind(cls, settings: Settings) -> _Entrances:
        """Raises ``ConfigError``."""
        https = settings.https
        return cls(
            await _bind(settings.server.http_listen, "server.http_listen"),
            await _bind(https.listen, "https.listen") if https.listen else None,
            await _bind(https.http_listen, "https.http_listen") if https.http_listen else None,
        )

    @property
    def clear(self) -> list[socket.socket]:
        """Those without TLS."""
        return [one for one in (self.http, self.plain) if one is not None]

    @staticmethod
    def address(one: socket.socket | None) -> tuple[str, int] | None:
        """Where it listens."""
        return one.getsockname()[:2] if one is not None else None


async def _bind(listen: str, setting: str) -> socket.socket:
    host, port = split_host_port(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setblocking(False)
    tries = round(BIND_WITHIN_S / 0.2)
    for attempt in range(tries):
        try:
            listening.bind((host, port))
            listening.listen(1024)
            return listening
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == tries - 1:
                raise ConfigError(
                    f"cannot listen on {listen}: {error.strerror}",
                    where=setting,
                    mend="stop what uses the port, or choose another one",
                ) from None
            await asyncio.sleep(0.2)
    raise AssertionError("unreachable")


def _announce(folder: DataFolder, entrances: _Entrances, submission: tuple[str, int]) -> None:
    values = folder.read_connection()
    for name, scheme, one in (("http", "http", entrances.http), ("https", "https", entrances.tls)):
        address = entrances.address(one)
        if address is not None:
            host, port = address
            values[name] = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if submission[0]:
        values["smtp"] = f"{submission[0]}:{submission[1]}"
    folder.write_connection(values)
