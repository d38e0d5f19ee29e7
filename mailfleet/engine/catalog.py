"""What every delivery needs and few deliveries change: contents, signing keys, flows, sites. Bounded caches over the store."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from mailfleet.base.clock import Clock
from mailfleet.base.secretbox import SecretBox
from mailfleet.mail.content import CompiledContent
from mailfleet.mail.dkim import Signer, SigningKey
from mailfleet.policy.rates import Rate, parse
from mailfleet.store import contents, sending, sites, tenants
from mailfleet.store.database import Database, Tx

K = TypeVar("K")
V = TypeVar("V")

MAX_CONTENT_BYTES = 64_000_000
KEYS_FRESH_S = 15  # a new or removed key is noticed this soon
FLOWS_FRESH_S = 0.25  # a paused or resumed campaign is noticed this soon
MAX_OPEN_KEYS = 10_000
SMALL_CONTENT_BYTES, MAX_PRELOADED = 64_000, 200


@dataclass(frozen=True, slots=True)
class LoadedContent:
    """A content ready for use: exactly one of ``compiled`` and ``raw`` is set."""

    id: int
    info: contents.ContentInfo
    compiled: CompiledContent | None
    raw: bytes | None
    size: int


class Allowed(NamedTuple):
    """A rate that a tenant, a stream or a campaign keeps to: ``whose`` and the number of it."""

    whose: str
    whose_id: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class FlowView:
    """A flow with the kind and name of its stream, the pools it may leave through, and the rates it keeps to."""

    flow: tenants.Flow
    stream: str
    kind: str
    pool_id: int = 0  # the stream's own; 0: the tenant's
    tenant_pool_id: int = 0
    spill: str = "later"
    allowances: tuple[Allowed, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """A sending domain with what signs for it."""

    domain: sending.SendingDomain
    signers: tuple[Signer, ...]


class Fresh(Generic[K, V]):
    """A bounded map whose entries are looked up again after ``fresh_s`` seconds. Many who ask at once share one look-up."""

    def __init__(self, clock: Clock, load: Callable[[K], Coroutine[Any, Any, V]], *, fresh_s: float, size: int) -> None:
        self._clock, self._load, self._fresh_s, self._size = clock, load, fresh_s, size
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The value, loaded when it is missing or stale."""
        entry = self._entries.get(key)
        if entry and self._clock.monotonic_s() - entry[0] < self._fresh_s:
            return entry[1]
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.create_task(self._fetch(key))
            loading.add_done_callback(lambda _: self._loading.pop(key, None))
        return await asyncio.shield(loading)

    async def _fetch(self, key: K) -> V:
        value = await self._load(key)
        self._entries[key] = (self._clock.monotonic_s(), value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
        return value

    def forget(self, key: K) -> None:
        """Have it looked up at the next use."""
        self._entries.pop(key, None)


class Catalog:
    """The caches of one process."""

    def __init__(self, database: Database, box: SecretBox, clock: Clock) -> None:
        self._database, self._box = database, box
        self._contents: OrderedDict[int, LoadedContent] = OrderedDict()
        self._content_bytes = 0
        # Only shares loads that are under way: what is kept is bounded by bytes, above.
        self._loads: Fresh[int, LoadedContent] = Fresh(clock, self._load_content, fresh_s=0, size=1)
        self._identities: Fresh[str, Identity | None] = Fresh(
            clock, self._load_identity, fresh_s=KEYS_FRESH_S, size=5000
        )
        self._signers: OrderedDict[int, tuple[bytes, Signer]] = OrderedDict()
        self._flows: Fresh[int, FlowView | None] = Fresh(clock, self._load_flow, fresh_s=FLOWS_FRESH_S, size=5000)

    async def content(self, content_id: int) -> LoadedContent:
        """A content, kept in memory while ``MAX_CONTENT_BYTES`` allow."""
        found = self._contents.get(content_id)
        if found is not None:
            self._contents.move_to_end(content_id)
            return found
        return await self._loads.get(content_id)

    async def preload(self, content_ids: Iterable[int]) -> None:
        """Load contents of single messages that are about to be used, in one look-up; large ones come when they are needed."""
        missing = sorted(set(content_ids) - self._contents.keys())
        for start in range(0, len(missing), MAX_PRELOADED):
            part = missing[start : start + MAX_PRELOADED]
            for stored in await self._database.read(
                partial(contents.small, content_ids=part, max_bytes=SMALL_CONTENT_BYTES)
            ):
                self._keep(stored)

    async def _load_content(self, content_id: int) -> LoadedContent:
        stored = await self._database.read(lambda tx: contents.get(tx, content_id))
        assert stored is not None, f"content {content_id} of a delivery is gone"
        return self._keep(stored)

    def _keep(self, stored: contents.Content) -> LoadedContent:
        loaded = LoadedContent(
            stored.id,
            stored.info,
            CompiledContent.from_bytes(stored.body) if stored.kind == "compiled" else None,
            stored.body if stored.kind == "raw" else None,
            len(stored.body),
        )
        self._contents[stored.id] = loaded
        self._content_bytes += loaded.size
        while self._content_bytes > MAX_CONTENT_BYTES and len(self._contents) > 1:
            self._content_bytes -= self._contents.popitem(last=False)[1].size
        return loaded

    async def identity(self, domain: str) -> Identity | None:
        """The sending domain that signs for ``domain``: itself or its nearest parent; None when there is none."""
        return await self._identities.get(domain)

    def forget_identity(self, domain: str) -> None:
        """A key or domain of this process's own making has changed."""
        self._identities.forget(domain)

    async def flow(self, flow_id: int) -> FlowView | None:
        """A flow and its stream."""
        return await self._flows.get(flow_id)

    async def site(self, site_id: int) -> sites.Site | None:
        """A site, as it is now."""
        return await self._database.read(lambda tx: sites.site(tx, site_id))

    async def _load_identity(self, name: str) -> Identity | None:
        def find(tx: Tx) -> tuple[sending.SendingDomain, list[sending.DkimKey]] | None:
            labels = name.split(".")
            for start in range(len(labels) - 1):
                domain = sending.by_name(tx, ".".join(labels[start:]))
                if domain is not None:
                    return domain, sending.keys(tx, domain.id)
            return None

        found = await self._database.read(find)
        if found is None:
            return None
        domain, keys = found
        signers = tuple(self._signer(domain.name, key) for key in keys if key.active)
        return Identity(domain, signers)

    def _signer(self, domain: str, key: sending.DkimKey) -> Signer:
        """An opened key stays open: a look-up only asks whether it is still the one."""
        found = self._signers.get(key.id)
        if found is not None and found[0] == key.sealed_key:
            return found[1]
        pem = self._box.open(key.sealed_key, key_label(domain, key.selector))
        signer = Signer(domain, key.selector, SigningKey.from_pem(pem, ours=True))
        self._signers[key.id] = (key.sealed_key, signer)
        while len(self._signers) > MAX_OPEN_KEYS:
            self._signers.popitem(last=False)
        return signer

    async def _load_flow(self, flow_id: int) -> FlowView | None:
        def find(tx: Tx) -> FlowView | None:
            flow = tenants.flow(tx, flow_id)
            if flow is None:
                return None
            stream = tenants.stream_by_id(tx, flow.stream_id)
            way = tenants.way_of_flow(tx, flow)
            whose = (("tenant", flow.tenant_id), ("stream", flow.stream_id), ("campaign", flow.campaign_id))
            allowances = tuple(
                Allowed(word, number, rate)
                for (word, number), text in zip(whose, way.rates, strict=True)
                for rate in parse(text)
            )
            return FlowView(flow, stream.name, stream.kind, way.pool_id, way.tenant_pool_id, way.spill, allowances)

        return await self._database.read(find)


def key_label(domain: str, selector: str) -> str:
    """What a DKIM key is sealed under."""
    return f"dkim:{domain}:{selector}"
