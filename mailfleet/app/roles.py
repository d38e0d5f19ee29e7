"""The roles of a node: what each process runs, and what must be true before any of them starts."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import uvloop

from mailfleet.app import compose, deliver, front
from mailfleet.app.certificates import certificates_of, check_acme
from mailfleet.app.dns import digests_of, dmarc_reports_of, domains_of, secure_dns, server_dns_of
from mailfleet.app.egress import tls_reports_of, trusted
from mailfleet.app.folder import DataFolder
from mailfleet.app.metering import Meter
from mailfleet.app.patience import patiently, unless_stopped
from mailfleet.base.errors import ConfigError
from mailfleet.base.ids import TenantId
from mailfleet.config.settings import Settings, worker_count
from mailfleet.config.warmup import load_plans
from mailfleet.engine.issuing import LocalIssuer
from mailfleet.engine.maintain import Maintainer
from mailfleet.engine.requests import Actor
from mailfleet.engine.shared import LongReads
from mailfleet.policy.server_plan import HELO_SPF
from mailfleet.sandbox import role as sandbox_role
from mailfleet.sandbox.published import publish
from mailfleet.store import clock_steps, egress, events, properties, sending, sites, tenants

SANDBOX_DOMAIN = "shop.example"


Beat = Callable[[], None]
"""Called every second while the role's event loop turns: silence means that it hangs."""


@dataclass(frozen=True, slots=True)
class Role:
    """One process of the node. ``run`` returns when it was told to stop, and raises when it crashed.

    ``stops_last``: the other roles cannot end their work without it.
    """

    name: str
    run: Callable[[Settings, DataFolder, int, Beat], None]
    stops_last: bool = False


def roles_of(settings: Settings) -> list[Role]:
    """Every process that this node needs."""
    slots = worker_count(settings)
    roles = [Role("sandbox", _role("sandbox", 0, _sandbox), stops_last=True)] if settings.sandbox.enabled else []
    roles += [Role("front", _role("front", 0, front.run)), Role("jobs", _role("jobs", 0, _jobs))]
    for slot in range(slots):
        roles.append(Role(f"deliver-{slot}", _role("deliver", slot, _deliver(slot, slots))))
    return roles


def bootstrap(settings: Settings, folder: DataFolder) -> None:
    """What a data folder needs before the first role starts: the default tenant, a token, and the sandbox's domain and login."""

    async def prepare() -> None:
        base = compose.base(settings, folder, "bootstrap")
        try:
            _read_what_is_named(base)
            await _bind_kind(base)
            await base.database.write(tenants.ensure_default)
            await base.database.write(lambda tx: egress.ensure_default(tx, base.clock.now_ms()))
            # No process delivers now, and there may be fewer of them this time
            await base.database.write(sites.reset_shares)
            await base.database.write(lambda tx: events.make_parts(tx, now_ms=base.clock.now_ms()))
            await _connection(base)
        finally:
            base.database.close()

    asyncio.run(prepare())


def _read_what_is_named(base: compose.Base) -> None:
    """Files and servers that the settings name: what is wrong with them ends the start, not a role over and over."""
    compose.providers_of(base)
    compose.blocklists(base)
    trusted(base.settings.delivery.tls_ca_file)
    secure_dns(base)
    check_acme(base.settings)


async def _bind_kind(base: compose.Base) -> None:
    """The queue of a sandbox is never served to real providers, wherever it is kept and whatever folder leads to it."""
    kind = "sandbox" if base.settings.sandbox.enabled else "live"
    found = await base.database.write(lambda tx: properties.bind(tx, properties.KIND, kind))
    if found != kind:
        raise ConfigError(
            f"this database is {found}, not {kind}",
            where="database.url",
            mend="leave out --sandbox, or give an empty database" if found == "live" else "give an empty database",
        )


async def _connection(base: compose.Base) -> None:
    """Make ``connection.json`` true: a token that works, and in the sandbox a domain and a login that work."""
    manager = compose.manager(base)
    owner = Actor(TenantId(tenants.DEFAULT_TENANT), name="this machine")
    values = base.folder.read_connection()
    if await manager.authenticate(values.get("token", "")) is None:
        made = await manager.add_token(owner, name="this machine", scopes=["send", "read", "manage"])
        values["token"] = made.secret or ""
    if base.settings.sandbox.enabled:
        _publish_ourselves(base)
        LocalIssuer(base.folder.tls).prepare()
        if await base.database.read(lambda tx: sending.by_name(tx, SANDBOX_DOMAIN)) is None:
            await manager.add_domain(owner, SANDBOX_DOMAIN)
        if await manager.login(values.get("smtp_user", ""), values.get("smtp_password", "")) is None:
            for old in await manager.credentials(owner):
                if old.username == "sandbox":
                    await manager.remove_credential(owner, old.credential)
            login = await manager.add_credential(owner, username="sandbox", stream="transactional", allowed_domains=[])
            values |= {"smtp_user": login.username, "smtp_password": login.password or ""}
    base.folder.write_connection({key: values[key] for key in ("token", "smtp_user", "smtp_password") if key in values})


def _publish_ourselves(base: compose.Base) -> None:
    """What the DNS of the sandbox holds of the server itself: name and address lead to each other, and may send."""
    here = ipaddress.ip_address("127.0.0.1")
    publish(base.folder.root, base.hostname, "A", str(here))
    publish(base.folder.root, base.hostname, "TXT", str(HELO_SPF))
    publish(base.folder.root, here.reverse_pointer, "PTR", f"{base.hostname}.")


async def _sandbox(base: compose.Base, stop: asyncio.Event) -> None:
    await sandbox_role.run(base.settings.model_copy(update={"data": base.folder.root}), base.clock, stop)


async def _jobs(base: compose.Base, stop: asyncio.Event) -> None:
    look = compose.reputation(base) if base.settings.reputation.brakes else None
    nameservers = compose.nameservers_of(base.settings)
    certificates = certificates_of(base, nameservers)
    live = not base.settings.sandbox.enabled
    dmarc = dmarc_reports_of(base, nameservers, LongReads(base.database))
    maintainer = Maintainer(
        base.database,
        base.folder.run,
        base.clock,
        time_scale=base.time_scale,
        reputation=look,
        blocklists=compose.blocklists(base),
        plans=load_plans(),
        dns=domains_of(base, nameservers, dmarc) if live else None,
        server_dns=server_dns_of(base, nameservers, certificates) if live else None,
        certificates=certificates,
        digests=digests_of(base, certificates),
        tls_reports=tls_reports_of(base, nameservers),
        dmarc=dmarc,
    )
    await maintainer.run(stop)


def _deliver(slot: int, slots: int) -> Callable[[compose.Base, asyncio.Event], Coroutine[Any, Any, None]]:
    async def run(base: compose.Base, stop: asyncio.Event) -> None:
        await deliver.run(base, slot, slots, stop)

    return run


def _role(
    name: str, slot: int, work: Callable[[compose.Base, asyncio.Event], Awaitable[None]]
) -> Callable[[Settings, DataFolder, int, Beat], None]:
    def run(settings: Settings, folder: DataFolder, lifeline: int, beat: Beat) -> None:
        async def main() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, stop.set)

            def cut() -> None:
                loop.remove_reader(lifeline)
                stop.set()

            loop.add_reader(lifeline, cut)  # readable means: the supervisor is gone
            beating = asyncio.create_task(_keep_beating(beat))
            base = compose.base(settings, folder, name, slot)
            meter = Meter(base.gauges, base.database, folder.run, base.role, base.clock)
            metering = asyncio.create_task(meter.run())
            try:
                newest = await unless_stopped(
                    stop, patiently("starting", lambda: base.database.read(clock_steps.newest_id))
                )
                if newest is not None:
                    base.ids.start_after(newest)
                    await work(base, stop)
            finally:
                beating.cancel()
                metering.cancel()
                meter.write()
                base.database.close()

        uvloop.run(main())

    return run


async def _keep_beating(beat: Beat) -> None:
    while True:
        beat()
        await asyncio.sleep(1)
