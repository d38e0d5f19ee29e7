"""What the front tells of the node: the backlog, free disk, and the snapshots of all roles, for whoever asks for ``/metrics``."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from mailfleet.app import compose, metering
from mailfleet.base.errors import BusyError
from mailfleet.engine import snapshots
from mailfleet.engine.backlog import Backlog
from mailfleet.engine.shared import LongReads
from mailfleet.engine.snapshots import Snapshot
from mailfleet.listen.metrics import Telemetry
from mailfleet.store.tenants import DEFAULT_TENANT

COUNT_WITHIN_S = 3.0  # a scrape that would have to wait longer tells the counts there are


def telemetry(base: compose.Base, reads: LongReads, backlog: Backlog) -> Telemetry:
    """For the front's HTTP entrance."""
    gauges, tenant = base.gauges, DEFAULT_TENANT
    gauges.watch_many("queued_deliveries", lambda: backlog.queued(tenant))
    gauges.watch_many("leased_deliveries", lambda: backlog.leased(tenant))
    gauges.watch_many("oldest_delivery_seconds", lambda: backlog.oldest_s(tenant))
    gauges.watch("backlog_count_age_seconds", lambda: backlog.age_s(tenant))
    gauges.watch("backlog_counts_total", lambda: backlog.walks)
    gauges.watch("long_reads_waiting", lambda: reads.waiting)
    gauges.watch("long_reads_total", lambda: reads.answered)
    gauges.watch("long_reads_refused_total", lambda: reads.refused)
    gauges.watch("free_disk_bytes", lambda: shutil.disk_usage(base.folder.root).free)

    async def collect() -> Sequence[Snapshot]:
        with contextlib.suppress(BusyError, TimeoutError):
            async with asyncio.timeout(COUNT_WITHIN_S):
                await backlog.counts(tenant)
        own = gauges.snapshot()
        # On disk before it is told, so that the next run of this role cannot begin below it. A full disk is in the log already.
        with contextlib.suppress(OSError):
            snapshots.write(base.folder.run, base.role, own)
        others = [role for role in metering.role_names(base.settings) if role != base.role]
        return [Snapshot(base.role, tuple(own), 0.0), *await asyncio.to_thread(_read, base.folder.run, others)]

    return Telemetry(gauges, collect)


def _read(run_folder: Path, roles: Sequence[str]) -> list[Snapshot]:
    """Every role that should run, those included that have written nothing."""
    return [snapshots.read(run_folder, role) or Snapshot(role, (), math.inf) for role in roles]
