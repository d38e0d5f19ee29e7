"""What every role tells of itself: a snapshot of its numbers each second, its memory, its files, the lag of its event loop."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.gauges import Gauges
from mailfleet.config.metrics import CATALOGUE
from mailfleet.config.settings import Settings, worker_count
from mailfleet.engine import snapshots
from mailfleet.store.database import Database

log = structlog.get_logger()

EVERY_S = 1.0
LAG_EVERY_S = 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def role_names(settings: Settings) -> list[str]:
    """The roles of this node, as they are called in files and labels."""
    deliver = [f"deliver-{slot}" for slot in range(worker_count(settings))]
    return [*(["sandbox"] if settings.sandbox.enabled else []), "front", "jobs", *deliver]


def gauges_of(run_folder: Path, role: str) -> Gauges:
    """The numbers of this process; counters go on from where an earlier run of the role stopped."""
    earlier = snapshots.read(run_folder, role)
    return Gauges(CATALOGUE, earlier.series if earlier else ())


class Meter:
    """Watches one process from inside and writes its snapshots."""

    def __init__(self, gauges: Gauges, database: Database, run_folder: Path, role: str, clock: Clock) -> None:
        self._gauges, self._run_folder, self._role, self._clock = gauges, run_folder, role, clock
        self._said = ""
        gauges.counter("role_starts_total").n += 1
        gauges.watch("database_commits_total", lambda: database.commits)
        gauges.watch("database_jobs_total", lambda: database.jobs)
        gauges.watch("resident_memory_bytes", _resident_bytes)
        gauges.watch("open_file_descriptors", lambda: len(os.listdir("/proc/self/fd")))
        gauges.watch("unreadable_values_total", lambda: gauges.watch_errors)
        self._lag = gauges.histogram("event_loop_lag_seconds")

    async def run(self) -> None:
        """For as long as the process lives."""
        now_s = write_at_s = self._clock.monotonic_s()
        while True:
            if now_s >= write_at_s:
                write_at_s = now_s + EVERY_S
                self.write()
            due_s = self._clock.monotonic_s() + LAG_EVERY_S
            await self._clock.sleep(LAG_EVERY_S)
            now_s = self._clock.monotonic_s()
            self._lag.observe(max(0.0, now_s - due_s))

    def write(self) -> None:
        """Write a snapshot now. What keeps it from being written is logged, once while it stays the same."""
        try:
            snapshots.write(self._run_folder, self._role, self._gauges.snapshot())
        except OSError as error:
            if str(error) != self._said:
                log.warning("metrics cannot be written", reason=str(error))
            self._said = str(error)
        else:
            self._said = ""


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
