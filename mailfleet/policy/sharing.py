"""When one site is too much for one core: its lane is split over all delivery processes, and so are its limits. Pure.

A site belongs to one process, so its limits hold without any talk. Where that process has no time left and much of what it
does is for this site, the others take their part: each keeps to a fixed part of every limit, so the sum is exact.
"""

from __future__ import annotations

from typing import NamedTuple

BUSY_SHARE = 0.85  # of a core; above it the process has nothing left to give
LANE_SHARE = 0.2  # of what the process has settled lately: many small sites spread over the processes by themselves
WINDOW_S = 2.0


class Load(NamedTuple):
    """What a process did in a while: ``cpu_s`` of ``wall_s`` seconds, and how many deliveries ended, in all and of one lane."""

    cpu_s: float
    wall_s: float
    settled: int
    lane_settled: int


def part_of(total: int, parts: int, place: int) -> int:
    """The part of ``total`` that falls to ``place`` (0 is the owner); the parts add up to ``total`` exactly."""
    return total // parts + (place < total % parts)


def place_of(slot: int, site_id: int, slots: int) -> int:
    """Where a process stands in the row of those that share a site: its owner first."""
    return (slot - site_id) % slots


def wants_help(load: Load, *, connections: int, waiting: bool, slots: int) -> bool:
    """Whether the owner of a lane should have it split: there must be a connection for everybody."""
    return (
        waiting
        and slots > 1
        and connections >= slots
        and load.wall_s >= WINDOW_S
        and load.cpu_s >= BUSY_SHARE * load.wall_s
        and load.lane_settled >= LANE_SHARE * max(1, load.settled)
    )
