"""The engine put together in one process: real database, real keys, real sockets to a scripted mail host. Only time is a fake."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from mailfleet.base import ids
from mailfleet.base.gauges import Gauges
from mailfleet.base.ids import IdGenerator, TenantId
from mailfleet.base.secretbox import SecretBox
from mailfleet.config.bounce_rules import load_rules
from mailfleet.config.metrics import CATALOGUE
from mailfleet.config.retry import Retry
from mailfleet.config.shaping import load_shaping
from mailfleet.config.warmup import load_plans
from mailfleet.engine.accept import Acceptor, Screen
from mailfleet.engine.backlog import Backlog
from mailfleet.engine.campaigns import Campaigns
from mailfleet.engine.catalog import Catalog, key_label
from mailfleet.engine.connect import Connector, Way
from mailfleet.engine.counts import DeliveryCounts
from mailfleet.engine.descriptors import Descriptors
from mailfleet.engine.dmarc_reports import DmarcReports
from mailfleet.engine.gate import Gate
from mailfleet.engine.journal import Journal
from mailfleet.engine.lane import Lane
from mailfleet.engine.lane_edges import LaneEdges
from mailfleet.engine.limits import LaneLimits
from mailfleet.engine.locate import Locator
from mailfleet.engine.maintain import Maintainer
from mailfleet.engine.manage import Manager
from mailfleet.engine.notices import Notices
from mailfleet.engine.observe import Observer
from mailfleet.engine.render import Renderer
from mailfleet.engine.requests import Actor, CampaignRequest, MessageRequest, RecipientRow
from mailfleet.engine.schedule import Scheduler
from mailfleet.engine.settle import Settler
from mailfleet.engine.shared import LongReads
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.engine.upload import Upload
from mailfleet.engine.views import CampaignAccepted
from mailfleet.engine.warming import Warming
from mailfleet.mail.dkim import ED25519, RSA, SigningKey
from mailfleet.net.resolver import Resolver
from mailfleet.net.smtp_peer import ClientOptions, Timeouts
from mailfleet.policy.classify import Classifier
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.policy.shaping import Shaper
from mailfleet.store import egress, queue, sending, sites, tenants
from mailfleet.store.database import Database, Tx
from mailfleet.store.egress import Egress
from mailfleet.store.schema import metadata_for
from mailfleet.store.sites import Site

NOW_MS = 1_767_225_600_000  # in the past of whoever verifies a signature
DOMAIN = "shop.example"
HOST = "mail.shop.example"
OWNER = Actor(TenantId(tenants.DEFAULT_TENANT), name="owner")
LITERAL = "[127.0.0.1]"  # recipients at an address literal need no DNS
TIMEOUTS = Timeouts(connect_s=20, greeting_s=20, command_s=20, data_s=20, final_s=20, quit_s=1)

LIMITS = LaneLimits(connections=3, messages_per_connection=100, idle_connection_s=5)


class FakeClock:
    """Wall time stands until it is set; monotonic time and sleeping are the loop's own, plus what was skipped."""

    def __init__(self) -> None:
        self.at_ms = NOW_MS
        self.skipped_s = 0.0

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_s(self) -> float:
        return time.monotonic() + self.skipped_s  # as the loop counts, from any thread

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.02))

    def skip(self, seconds: float) -> None:
        """Both clocks move on."""
        self.at_ms += round(seconds * 1000)
        self.skipped_s += seconds


@cache
def signing_key(algorithm: str, number: int = 0) -> SigningKey:
    """Keys take long to make, so tests share them."""
    return SigningKey.generate(algorithm)


@cache
def classifier() -> Classifier:
    """The shipped rules, read once."""
    return Classifier(load_rules())


async def no_addresses(host: str) -> list[str]:
    """Nobody is looked up."""
    return []


async def no_names(addresses: Collection[str], within_s: float) -> dict[str, str]:
    """Nobody has a name."""
    return {}


@dataclass
class Plant:
    """The parts of the engine, built as ``app.compose`` builds them."""

    database: Database
    folder: Path
    retry: Retry = field(default_factory=Retry)
    time_scale: float = 1

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.box = SecretBox(bytes(range(32)))
        self.ids = IdGenerator(9, self.clock.now_ms)
        self.full = ""  # set to have nothing taken
        screen = Screen(lambda: self.full)
        self.catalog = Catalog(self.database, self.box, self.clock)
        common: dict[str, Any] = {
            "retry": self.retry,
            "time_scale": self.time_scale,
            "clock": self.clock,
            "ids": self.ids,
        }
        self.acceptor = Acceptor(self.database, self.catalog, screen, hostname=HOST, max_recipients=20, **common)
        self.reads = LongReads(self.database)
        self.campaigns = Campaigns(self.database, self.acceptor, screen, self.reads, **common)
        self.backlog = Backlog(self.reads, self.clock)
        self.observer = Observer(
            self.database, self.reads, screen, self.backlog, self.clock, sandbox=False, time_scale=self.time_scale
        )
        told: dict[str, Any] = {"defaults": SourceDefaults(HOST, private=True), "clock": self.clock, "ids": self.ids}
        self.manager = Manager(self.database, self.catalog, self.box, **told)
        self.dmarc = DmarcReports(self.database, self.reads, no_addresses, no_names, **told)
        self.maintainer = Maintainer(self.database, self.folder, self.clock, dmarc=self.dmarc)
        self.notices = Notices(self.catalog, hostname=HOST, **common)
        self.classifier = classifier()
        self.renderer = Renderer(self.catalog, self.box)

    async def add_domain(self, name: str = DOMAIN, *, tenant_id: int = 1, ed25519: bool = False) -> None:
        """A sending domain with keys that were made before."""
        number = self.ids.next()
        keys = [
            sending.DkimKey(
                self.ids.next(),
                number,
                selector,
                algorithm,
                self.box.seal(signing_key(algorithm).to_pem(), key_label(name, selector)),
                signing_key(algorithm).public_record(),
                1,
                NOW_MS,
            )
            for selector, algorithm in (("r1", RSA), ("e1", ED25519))[: 2 if ed25519 else 1]
        ]
        domain = sending.SendingDomain(number, tenant_id, name, f"bounce.{name}", NOW_MS)
        assert await self.database.write(lambda tx: sending.add(tx, domain, keys))

    async def rows(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """What the database says."""
        return await self.database.read(lambda tx: tx.rows(sql, params))

    async def counts(self) -> dict[str, int]:
        """Rows of every table."""

        def find(tx: Tx) -> dict[str, int]:
            return {name: int(tx.value(f"SELECT count(*) FROM {name}")) for name in metadata_for(tx.engine).tables}

        return await self.database.read(find)

    async def states(self) -> dict[str, str]:
        """``address -> state``."""
        return {
            row[0]: DeliveryState(row[1]).word
            for row in await self.rows("SELECT address, state FROM delivery ORDER BY id")
        }

    async def events(self, address: str = "") -> list[tuple[str, dict[str, Any]]]:
        """Kind and data of each event, oldest first, of one address or of all."""
        found = await self.rows(
            "SELECT e.kind, e.data FROM event e LEFT JOIN delivery d ON d.id = e.delivery_id"
            " WHERE ? = '' OR d.address = ? ORDER BY e.id",
            address,
            address,
        )
        return [(kind, orjson.loads(data) if data else {}) for kind, data in found]

    async def kinds(self, address: str = "") -> list[str]:
        """The kinds of events, oldest first."""
        return [kind for kind, _ in await self.events(address)]

    async def send(self, *to: str, **values: Any) -> list[str]:
        """Accept one plain message; the public ids of its deliveries."""
        request = MessageRequest(**{"sender": f"a@{DOMAIN}", "to": to, "subject": "hi", "text": "hello", **values})
        return [one.delivery for one in (await self.acceptor.send(OWNER, request)).deliveries]

    async def upload(self, *addresses: str, **values: Any) -> CampaignAccepted:
        """A campaign to these addresses."""
        upload = await self.open(**values)
        await upload.add([RecipientRow(n, one, {}) for n, one in enumerate(addresses, start=2)], [])
        return await upload.seal()

    async def open(self, *, previews: int = 0, **values: Any) -> Upload:
        """Start an upload."""
        return await self.campaigns.open(OWNER, campaign_request(**values), previews=previews)

    async def locate_all(self) -> int:
        """Point every domain to one site on this machine; the site's id."""

        def locate(tx: Tx) -> int:
            site_id = sites.put_site(tx, f"0:{LITERAL}", "implicit", [(0, LITERAL)], "", "")
            for (domain_id,) in tx.rows("SELECT id FROM mail_domain"):
                sites.locate(tx, domain_id, site_id, valid_until_ms=NOW_MS * 2)
            return site_id

        return await self.database.write(locate)

    async def claim_all(self, lease_id: int) -> list[queue.Claimed]:
        """Lease everything that is due."""

        def claim(tx: Tx) -> list[queue.Claimed]:
            now_ms = self.clock.now_ms()
            return [
                claimed
                for one in queue.backlog(tx)
                for claimed in queue.claim(tx, one, limit=10_000, now_ms=now_ms, lease_id=lease_id)
            ]

        return await self.database.write(claim)


def campaign_request(**values: Any) -> CampaignRequest:
    """A small campaign."""
    return CampaignRequest(
        **{"name": "spring", "sender": f"News <news@{DOMAIN}>", "subject": "Hello", "text": "Spring is here", **values}
    )


@dataclass
class Works:
    """The delivering half, over a lease of its own."""

    plant: Plant
    port: int = 1
    limits: LaneLimits = LIMITS
    slot: int = 0

    async def start(self) -> Works:
        """Open a lease and build the parts."""
        plant, rng = self.plant, random.Random(1)
        clock = plant.clock
        self.lease_id = await plant.database.write(
            lambda tx: queue.new_lease(tx, f"deliver-{self.slot}", self.slot, clock.now_ms() + 60_000)
        )
        self.journal = Journal(plant.folder, self.slot, self.lease_id)
        self.settler = Settler(
            plant.database,
            plant.catalog,
            plant.classifier,
            plant.notices,
            self.journal,
            lease_id=self.lease_id,
            retry=plant.retry,
            time_scale=plant.time_scale,
            clock=clock,
            ids=plant.ids,
            rng=rng,
            counts=DeliveryCounts(Gauges(CATALOGUE)),
            shaper=Shaper(load_shaping(), plant.time_scale),
        )
        self.resolver = Resolver(["127.0.0.1:9"], 0.2, clock)
        descriptors = Descriptors(clock)
        connector = Connector(self.resolver, ipv6=False, rng=rng, descriptors=descriptors)
        self.edges = LaneEdges(
            connector, plant.renderer, self.settler, self.journal, clock, plant.time_scale, asyncio.Event(), Gate()
        )
        self.scheduler = Scheduler(
            plant.database,
            plant.catalog,
            self.settler,
            self.edges,
            Warming(load_plans(), plant.time_scale),
            way_of=self.way_of,
            limits_for=lambda row, provider: self.limits,
            slot=0,
            slots=1,
            lease_id=self.lease_id,
            clock=clock,
            rng=rng,
        )
        self.locator = Locator(
            plant.database,
            self.resolver,
            lambda hosts: None,
            slot=0,
            slots=1,
            clock=clock,
            time_scale=1,
            descriptors=descriptors,
            counts=self.settler.counts,
        )
        return self

    def way_of(self, row: Egress) -> Way:
        """A way out as the tests' hosts are reached."""
        options = ClientOptions(HOST, TIMEOUTS, tls="none", loopback_only=True, source_ipv4=row.address)
        return Way(row.id, row.name, options, self.port)

    async def lane(self) -> Lane:
        """A lane to the site on this machine."""
        site_id = await self.plant.locate_all()
        way = self.way_of((await self.plant.database.read(egress.all_egresses))[0])
        return Lane(way, Site(site_id, f"0:{LITERAL}", "implicit", ((0, LITERAL),), "", ""), self.limits, self.edges)


@contextlib.asynccontextmanager
async def running(
    works: Works, *, settle: bool = True, schedule: bool = False, locate: bool = False
) -> AsyncIterator[Works]:
    """Run the loops of the delivering half."""
    if not hasattr(works, "journal"):
        await works.start()
    tasks = [asyncio.create_task(works.settler.run())] if settle else []
    tasks += [asyncio.create_task(works.scheduler.run())] if schedule else []
    tasks += [asyncio.create_task(works.locator.run())] if locate else []
    try:
        yield works
        for task in tasks:
            if task.done():
                task.result()
    finally:
        if schedule:
            await works.scheduler.stop(30)
        await works.locator.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            works.journal.close()


async def until(condition: Any, *, patience_s: float = 30) -> None:
    """Wait for ``condition()`` (or its awaited value) to become true."""
    async with asyncio.timeout(patience_s):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.005)


def number_of(public: str) -> int:
    """``dlv_...`` -> the id."""
    return ids.from_public("dlv", public)
