"""Disks of a test's own below a data folder: small ones that fill up, and one that fails and is read-only from then on."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.behaviours.server import wait_until

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


class FailingDisk:
    """An ext4 file system in ``image`` mounted at ``folder``; ``fail`` makes the kernel give it up: read-only from there on."""

    def __init__(self, image: Path, folder: Path, size_mb: int = 96) -> None:
        self._image, self._folder = image, folder
        with image.open("wb") as file:
            file.truncate(size_mb * BLOCK_BYTES)
        _run("mkfs.ext4", "-q", "-F", image)

    def mount(self) -> None:
        """As the system does at its start."""
        self._folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self._folder)

    def fail(self) -> None:
        """An error in the file system: whoever writes from now on hears EROFS, files that are open included."""
        device = subprocess.run(
            ["findmnt", "--noheadings", "--output", "SOURCE", self._folder], check=True, capture_output=True, text=True
        )
        Path("/sys/fs/ext4", Path(device.stdout.strip()).name, "trigger_fs_error").write_text("a test")

    def repair(self) -> None:
        """What a person does then: unmount, check, mount. Nothing may use it."""
        self.unmount()
        checked = subprocess.run(["e2fsck", "-p", "-f", self._image], capture_output=True, text=True, check=False)
        assert checked.returncode in (0, 1), checked.stdout + checked.stderr
        self.mount()

    def unmount(self) -> None:
        """Let go of it, as soon as the last process that used it is gone."""
        command: list[str | Path] = ["umount", self._folder]
        wait_until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0)
