"""Logging of one process: everything to its own bounded file, warnings to the terminal too.

Whatever happens to the disk, logging never fails and never floods: it is most needed when the rest fails.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

MAX_LOG_BYTES = 10_000_000
BURST = 10  # warnings of one kind that are logged within BURST_WINDOW_S; the rest is counted
BURST_WINDOW_S = 60.0


class _Damping:
    """A processor that lets ``BURST`` warnings of one event through in ``BURST_WINDOW_S``; the next says how many it left out."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}  # event -> (start of its window, lines in it)

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The event, or ``DropEvent``."""
        if method in ("debug", "info"):
            return event
        name, now_s = str(event.get("event")), time.monotonic()
        since_s, count = self._seen.get(name, (now_s, 0))
        if now_s - since_s > BURST_WINDOW_S:
            if count > BURST:
                event["left_out"] = count - BURST
            since_s, count = now_s, 0
        self._seen[name] = (since_s, count + 1)
        if count >= BURST:
            raise structlog.DropEvent
        return event


class _File(logging.handlers.RotatingFileHandler):
    """A log file. While it cannot be written, that is said on the terminal, once."""

    _failing = _failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line if the disk lets it."""
        self._failed = False
        super().emit(record)
        self._failing = self._failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Called by ``emit`` for what it caught."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._failed = True
        if not self._failing:
            say(f"mailfleet: {self.baseFilename} cannot be written: {error.strerror}")


def say(line: str) -> None:
    """A line on the terminal, if there is one that takes it."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def set_up(folder: Path, role: str, level: str) -> None:
    """One JSON object a line in ``folder/<role>.log``, kept to three files of ``MAX_LOG_BYTES``."""
    chain: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            _Damping(),
            *chain,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    to_file = _File(folder / f"{role}.log", maxBytes=MAX_LOG_BYTES, backupCount=2, delay=True)
    with contextlib.suppress(OSError):  # now, while there is a descriptor; where it cannot be, every line tries again
        to_file.stream = to_file._open()
    to_file.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=chain,
        )
    )
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setLevel(logging.WARNING)
    to_terminal.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda _logger, _name, event: {"role": role, **event},
                structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
            ],
            foreign_pre_chain=chain,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [to_file, to_terminal]
    root.setLevel(level.upper())
