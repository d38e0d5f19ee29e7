"""A real PowerDNS on loopback: zones in SQLite, changed through its HTTP API and served as an authoritative server."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.knot import START_S
from tests.ports import free_port

API_KEY = "an-api-key-of-tests"
SCHEMA = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")


class PowerDns:
    """``zones`` is ``{name: [line of a zone file]}``; SOA and NS are added."""

    def __init__(self, folder: Path, zones: Mapping[str, list[str]]) -> None:
        binary = shutil.which("pdns_server") or "/usr/sbin/pdns_server"
        if not (Path(binary).exists() and SCHEMA.exists()):
            pytest.fail("PowerDNS is missing: run scripts/install-dns")
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.api_port = free_port(), free_port()
        database = folder / "zones.db"
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(SCHEMA.read_text())
        options = {
            "launch": "gsqlite3", "gsqlite3-database": database, "socket-dir": folder, "local-address": "127.0.0.1",
            "local-port": self.port, "api": "yes", "api-key": API_KEY, "webserver": "yes", "webserver-address": "127.0.0.1",
            "webserver-port": self.api_port, "webserver-allow-from": "127.0.0.1", "cache-ttl": 0, "query-cache-ttl": 0,
            "negquery-cache-ttl": 0, "zone-cache-refresh-interval": 0, "security-poll-suffix": "", "guardian": "no",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [
                binary,
                f"--config-dir={folder}",
                "--no-config",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.api_port}/api/v1/servers/localhost",
            headers={"X-API-Key": API_KEY},
            timeout=10,
            trust_env=False,
        )
        until = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, "PowerDNS does not start"
            time.sleep(0.05)
        for name, lines in zones.items():
            self.add_zone(name, lines)

    @property
    def address(self) -> str:
        """As settings and resolvers take it."""
        return f"127.0.0.1:{self.port}"

    def everything(self, name: str) -> list[str]:
        """What a zone holds now, as ``name ttl type value`` without SOA and NS; semicolons as they are."""
        found = self.http.get(f"/zones/{name}.").raise_for_status().json()["rrsets"]
        return sorted(
            f"{one['name']} {one['ttl']} {one['type']} {record['content']}".replace("\\;", ";")
            for one in found
            if one["type"] not in ("SOA", "NS")
            for record in one["records"]
        )

    def add_zone(self, name: str, lines: list[str]) -> None:
        """A new zone; ``lines`` of a zone file, to which SOA and NS are added."""
        head = [f"@ SOA ns.{name}. hostmaster.{name}. 1 3600 600 86400 1", f"@ NS ns.{name}.", "ns A 127.0.0.1"]
        text = "\n".join([f"$ORIGIN {name}.", "$TTL 1", *head, *lines, ""])
        made = self.http.post("/zones", json={"name": f"{name}.", "kind": "Native", "zone": text})
        assert made.status_code == 201, made.text

    def remove_zone(self, name: str) -> None:
        """It is served no more."""
        self.http.delete(f"/zones/{name}.").raise_for_status()

    def put(self, zone: str, name: str, kind: str, *values: str) -> None:
        """Other records of one name and type, from now on; none takes them away."""
        change: dict[str, Any] = {"name": f"{name}.", "type": kind, "ttl": 1, "changetype": "REPLACE"}
        change["records"] = [{"content": value, "disabled": False} for value in values]
        self.http.patch(f"/zones/{zone}.", json={"rrsets": [change]}).raise_for_status()

    def freeze(self) -> None:
        """It answers nothing any more."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it; may be called again."""
        if self._process.poll() is None:
            self.thaw()
            self._process.terminate()
            self._process.wait(20)
        self.http.close()

    def _answers(self) -> bool:
        try:
            return self.http.get("/zones").is_success
        except httpx.TransportError:
            return False
