"""Disks of a test's own below a data folder: small ones that fill up, and one that fails and is read-only from then on."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 1 << 20


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """A disk of ``size_mb`` in memory at ``folder``."""
    folder.mkdir(parents=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0700", "tmpfs", folder)
    try:
        yield
    finally:
        _run("umount", "--lazy", folder)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Not one byte is free on the disk of ``folder``; with the block's end there is room again."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            size = BLOCK_BYTES
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2
        yield
    finally:
        ballast.unlink()


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
