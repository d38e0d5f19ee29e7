"""What lanes work with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mailfleet.base.clock import Clock
from mailfleet.engine.connect import Connector
from mailfleet.engine.gate import Gate
from mailfleet.engine.journal import Journal
from mailfleet.engine.render import Renderer
from mailfleet.engine.settle import Settler


@dataclass(frozen=True, slots=True)
class LaneEdges:
    """Shared by all lanes of a process."""

    connector: Connector
    renderer: Renderer
    settler: Settler
    journal: Journal
    clock: Clock
    time_scale: float
    hungry: asyncio.Event  # set when a lane could use more deliveries
    gate: Gate
