"""A real DNS server on loopback: Knot, with zones as text that may be replaced while it runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

START_S = 20.0


class Knot:
    """``zones`` is ``{name: [line of a zone file]}``; SOA and NS are added."""

    def __init__(self, folder: Path, zones: Mapping[str, list[str]]) -> None:
        binary = shutil.which("knotd") or "/usr/sbin/knotd"
        if not Path(binary).exists():
            pytest.fail("Knot is missing: run scripts/install-dns")
        self._folder, self._serial = folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        for name, lines in zones.items():
            self._write(name, lines)
        listed = "\n".join(f"  - domain: {name}\n    file: {folder / name}" for name in zones)
        (folder / "knot.conf").write_text(
            f"server:\n  rundir: {folder}\n  listen: 127.0.0.1@{self.port}\n"
            f"database:\n  storage: {folder}\nzone:\n{listed}\n"
        )
        self._process = subprocess.Popen(
            [binary, "-c", str(folder / "knot.conf")],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        until = time.monotonic() + START_S
        while not (folder / "knot.sock").exists():
            assert self._process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, "Knot does not start"
            time.sleep(0.05)

    @property
    def address(self) -> str:
        """As settings and resolvers take it."""
        return f"127.0.0.1:{self.port}"

    def replace(self, name: str, lines: list[str]) -> None:
        """Another content of a zone, from now on."""
        self._write(name, lines)
        control = ["knotc", "-c", str(self._folder / "knot.conf"), "-b", "zone-reload", name]
        subprocess.run(control, check=True, capture_output=True, timeout=20)

    def freeze(self) -> None:
        """It answers nothing any more."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self.thaw()
        self._process.terminate()
        self._process.wait(20)

    def _write(self, name: str, lines: list[str]) -> None:
        self._serial += 1
        head = [
            f"$ORIGIN {name}.",
            "$TTL 1",
            f"@ SOA ns.{name}. hostmaster.{name}. {self._serial} 3600 600 86400 1",
            f"@ NS ns.{name}.",
            "ns A 127.0.0.1",
        ]
        (self._folder / name).write_text("\n".join([*head, *lines, ""]))
