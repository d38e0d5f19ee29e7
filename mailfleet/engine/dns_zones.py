"""Zones that may be written to, by dynamic update or through a provider of octoDNS. What is put there is in ``engine.domains``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping

from mailfleet.base.clock import Clock
from mailfleet.base.errors import ConflictError, InputError, NotFoundError
from mailfleet.base.ids import IdGenerator
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine.dns_publish import Zones
from mailfleet.engine.domain_views import ZoneView
from mailfleet.engine.requests import Actor
from mailfleet.mail.address import domain_to_ascii
from mailfleet.net.dns_provider import RESERVED, Setting
from mailfleet.net.dns_update import ALGORITHMS, DnsUpdateError, ZoneWriter
from mailfleet.store import dns as dns_rows
from mailfleet.store.database import Database
from mailfleet.store.dns import Target

_ZONE = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_SECRET = re.compile(r"token|secret|passw|passphrase|credential|key(?!_(id|name)$)")  # in the names of settings


class DnsZones:
    """For one process. ``writer_of`` makes what writes to a zone."""

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        writer_of: Callable[[Target], ZoneWriter],
        clock: Clock,
        ids: IdGenerator,
    ) -> None:
        self._database, self._box, self._writer_of, self._clock, self._ids = database, box, writer_of, clock, ids

    async def add_dynamic(
        self, actor: Actor, zone: str, *, server: str, key_name: str, secret: str, algorithm: str
    ) -> ZoneView:
        """By dynamic update. Raises ``InputError`` and ``ConflictError``."""
        name = _zone_name(zone)
        if algorithm not in ALGORITHMS:
            raise InputError(f"{algorithm!r} is not known", where="algorithm", mend=f"one of {', '.join(ALGORITHMS)}")
        sealed = self._box.seal(secret.encode(), zone_label(name)) if secret else None
        now_ms = self._clock.now_ms()
        return await self._add(
            Target(self._ids.next(), actor.tenant_id, name, "rfc2136", server, key_name, algorithm, sealed, now_ms)
        )

    async def add_provider(
        self, actor: Actor, zone: str, *, provider: str, settings: Mapping[str, Setting], secrets: Mapping[str, str]
    ) -> ZoneView:
        """Through a provider of octoDNS, which must be able to read the zone now. Raises ``InputError`` and ``ConflictError``."""
        name = _zone_name(zone)
        for one in (*settings, *secrets):
            if not _NAME.fullmatch(one) or one in RESERVED:
                raise InputError(
                    f"{one!r} is no setting of a provider", where="settings", mend="see the provider's page"
                )
        for one in settings:
            if _SECRET.search(one):
                raise InputError(
                    f"{one} looks like a secret, and settings are shown",
                    where="settings",
                    mend=f"give it among the secrets: mailfleet dns add --secret {one}",
                )
        if twice := sorted(settings.keys() & secrets.keys()):
            raise InputError(f"{twice[0]} is given twice", where="settings", mend="once, as a setting or as a secret")
        sealed = self._box.seal(json.dumps(dict(secrets)).encode(), zone_label(name)) if secrets else None
        now_ms, shown = self._clock.now_ms(), json.dumps(dict(settings))
        return await self._add(
            Target(
                self._ids.next(), actor.tenant_id, name, "octodns", "", "", "", sealed, now_ms, provider, shown
            )
        )  # fmt: skip

    async def by_hand(self, names: Iterable[str]) -> set[str]:
        """Of these names, those for whose zone nobody said how it is written to."""
        zones = Zones(await self._database.read(dns_rows.targets))
        return {one for one in names if zones.of(one) is None}

    async def _add(self, target: Target) -> ZoneView:
        name = target.zone
        taken = ConflictError(f"{name} is there already", where="zone", mend=f"mailfleet dns remove {name}")
        if name in {one.zone for one in await self._database.read(dns_rows.targets)}:
            raise taken
        try:
            await self._writer_of(target).prove()
        except DnsUpdateError as error:
            raise ConflictError(str(error), where=name, mend="mend that, and add the zone again") from None
        if not await self._database.write(lambda tx: dns_rows.add_target(tx, target)):
            raise taken
        return _view(target)

    async def all(self) -> list[ZoneView]:
        """All of them, without secrets."""
        return [_view(one) for one in await self._database.read(dns_rows.targets)]

    async def remove(self, zone: str) -> None:
        """Write there no more. Raises ``NotFoundError``."""
        name = domain_to_ascii(zone.strip().rstrip("."))
        if not await self._database.write(lambda tx: dns_rows.remove_target(tx, name)):
            raise NotFoundError(f"there is no zone {zone!r}", where="zone", mend="see: mailfleet dns list")


def zone_label(zone: str) -> str:
    """What the secret of a zone is sealed under."""
    return f"dns:{zone}"


def _zone_name(zone: str) -> str:
    name = domain_to_ascii(zone.strip().rstrip("."))
    if not _ZONE.fullmatch(name):
        raise InputError(f"{zone!r} is no zone", where="zone", mend="give a domain name")
    return name


def _view(target: Target) -> ZoneView:
    return ZoneView(
        zone=target.zone,
        kind=target.kind,
        server=target.server,
        key_name=target.key_name,
        algorithm=target.algorithm,
        provider=target.provider,
        settings=json.loads(target.settings or "{}"),
    )
