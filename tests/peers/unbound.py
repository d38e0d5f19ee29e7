"""A real validating resolver on loopback: Unbound, sent to one server for the zones of a test."""

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

from tests.ports import free_port

START_S = 60.0


class Unbound:
    """``zones`` is ``{zone: "address:port"}`` of who serves it; ``anchors`` are DS or DNSKEY records that it trusts.

    ``date``, as 20500101000000: when it believes to live, so that signatures of today have expired.
    """

    def __init__(self, folder: Path, zones: Mapping[str, str], anchors: list[str], *, date: str = "") -> None:
        binary = shutil.which("unbound") or "/usr/sbin/unbound"
        if not Path(binary).exists():
            pytest.fail("Unbound is missing: run scripts/install-dns")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        lines = [
            "server:",
            f"  directory: {folder}",
            f"  pidfile: {folder / 'pid'}",
            "  chroot: \"\"",
            "  username: \"\"",
            "  use-syslog: no",
            f"  interface: 127.0.0.1@{self.port}",
            "  do-not-query-localhost: no",
            "  module-config: \"validator iterator\"",
            "  local-zone: test. nodefault",
            "  cache-max-ttl: 0",
            "  cache-max-negative-ttl: 0",
            *([f"  val-override-date: \"{date}\""] if date else []),
            *(f"  trust-anchor: \"{anchor}\"" for anchor in anchors),
            *(f"  domain-insecure: {zone}" for zone in zones if not any(a.startswith(f"{zone}.") for a in anchors)),
            "remote-control:",
            "  control-enable: no",
        ]  # fmt: skip
        for zone, server in zones.items():
            lines += ["stub-zone:", f"  name: {zone}", f"  stub-addr: {server.replace(':', '@')}"]
        (folder / "unbound.conf").write_text("\n".join([*lines, ""]))
        self._process = subprocess.Popen(
            [binary, "-d", "-p", "-c", str(folder / "unbound.conf")],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        until = time.monotonic() + START_S
        while not self._listens():
            assert self._process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, "Unbound does not start"
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def freeze(self) -> None:
        """It answers nothing any more."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def close(self) -> None:
        """End it."""
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.terminate()
        self._process.wait(20)
