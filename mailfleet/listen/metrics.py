"""``GET /metrics``: what every role of the node counted, in one page that Prometheus reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

import mailfleet
from mailfleet.base.gauges import Gauges, Series
from mailfleet.config.metrics import CATALOGUE, NAMES_BEGIN_WITH
from mailfleet.engine.snapshots import Snapshot
from mailfleet.listen.http_auth import bearer, may_read


@dataclass(frozen=True)
class Telemetry:
    """The numbers of this process, and where those of all roles of the node are found (itself included)."""

    gauges: Gauges
    snapshots: Callable[[], Awaitable[Sequence[Snapshot]]]

    @classmethod
    def of_one(cls) -> Telemetry:
        """For an app by itself, without roles."""
        gauges = Gauges(CATALOGUE)

        async def collect() -> Sequence[Snapshot]:
            return [Snapshot("front", tuple(gauges.snapshot()), 0.0)]

        return cls(gauges, collect)


def install(app: FastAPI, telemetry: Telemetry) -> None:
    """Add ``/metrics`` to ``app``."""
    one_at_a_time = asyncio.Lock()

    async def may_scrape(
        request: Request, presented: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> None:
        if not request.app.state.settings.server.metrics_open:
            await may_read(request, presented)

    @app.get(
        "/metrics",
        tags=["Health"],
        summary="Read what was counted",
        dependencies=[Depends(may_scrape)],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The metrics."}},
    )
    async def metrics(request: Request) -> Response:
        """For Prometheus: text, or OpenMetrics to those who ask for it. The token needs the scope `read`, unless the setting
        `server.metrics_open` lets anybody in."""
        accept = request.headers.get("accept", "")
        async with one_at_a_time:  # however many scrape
            # Beside the event loop: writing thousands of lines takes tens of milliseconds.
            page, media_type = await asyncio.to_thread(exposition, await telemetry.snapshots(), accept)
        return Response(page, headers={"Content-Type": media_type})


def exposition(snapshots: Sequence[Snapshot], accept: str = "") -> tuple[bytes, str]:
    """The page and its media type: Prometheus' text format, or OpenMetrics where ``accept`` wants it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Node(snapshots))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Node(Collector):
    """Snapshots of roles as families of Prometheus' own library. What a silent role held is not told, what it counted is."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """Families in the order of the catalogue."""
        found: dict[str, list[tuple[str, Series]]] = {name: [] for name in CATALOGUE}
        for snapshot in self._snapshots:
            for one in snapshot.series:
                metric = CATALOGUE.get(one.name)
                if metric is None or len(one.labels) != len(metric.labels):
                    continue  # another version's
                if snapshot.alive or metric.kind != "gauge":
                    found[one.name].append((snapshot.role, one))
        yield InfoMetricFamily(
            NAMES_BEGIN_WITH + "build", "The program that answers.", {"version": mailfleet.__version__}
        )
        up = GaugeMetricFamily(
            NAMES_BEGIN_WITH + "role_up", "1 while the role gives signs of life, else 0.", labels=["role"]
        )
        for snapshot in self._snapshots:
            up.add_metric([snapshot.role], float(snapshot.alive))
        yield up
        for name, lines in found.items():
            if lines:
                yield _family(name, lines)


def _family(name: str, lines: Sequence[tuple[str, Series]]) -> Metric:
    metric = CATALOGUE[name]
    full = NAMES_BEGIN_WITH + name
    labels = [*([] if metric.node else ["role"]), *metric.labels]
    placed = [([*([] if metric.node else [role]), *one.labels], one) for role, one in lines]
    if metric.kind == "counter":
        counter = CounterMetricFamily(full, metric.help, labels=labels)
        for values, one in placed:
            counter.add_metric(values, one.value)
        return counter
    if metric.kind == "gauge":
        gauge = GaugeMetricFamily(full, metric.help, labels=labels)
        for values, one in placed:
            gauge.add_metric(values, one.value)
        return gauge
    histogram = HistogramMetricFamily(full, metric.help, labels=labels)
    for values, one in placed:
        if len(one.counts) == len(one.bounds) + 1:
            edges = [*map(floatToGoString, one.bounds), "+Inf"]
            histogram.add_metric(values, list(zip(edges, accumulate(one.counts), strict=True)), one.value)
    return histogram
