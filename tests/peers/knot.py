"""A real DNS server on loopback: Knot, with zones as text that may be replaced while it runs."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.ports import free_port

START_S = 60.0
KEY = "mailfleet-test"
SECRET = base64.b64encode(b"a secret of thirty-two octets ok").decode()
HIDDEN = frozenset({"SOA", "NS", "RRSIG", "NSEC", "NSEC3", "DNSKEY", "NSEC3PARAM", "CDS", "CDNSKEY", "TYPE65534"})


class Knot:
    """``zones`` is ``{name: [line of a zone file]}``; SOA and NS are added.

    ``secret``: of the TSIG key ``KEY``, by which the zones may be updated. ``signed``: with DNSSEC. It answers at all ``addresses``.
    ``elsewhere``: zones whose name server is said to be at another address.
    """

    def __init__(
        self,
        folder: Path,
        zones: Mapping[str, list[str]],
        *,
        secret: str = "",
        signed: bool = False,
        addresses: Sequence[str] = ("127.0.0.1",),
        port: int = 0,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        binary = shutil.which("knotd") or "/usr/sbin/knotd"
        if not Path(binary).exists():
            pytest.fail("Knot is missing: run scripts/install-dns")
        self._folder, self._serial, self._first = folder, 0, addresses[0]
        self._elsewhere = elsewhere or {}
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port(*addresses)
        for name, lines in zones.items():
            self._write(name, lines)
        more = "\n    zonefile-sync: -1\n    acl: update" if secret else ""
        more += "\n    dnssec-signing: on" if signed else ""
        listed = "\n".join(f"  - domain: {name}\n    file: {folder / name}{more}" for name in zones)
        key = f"key:\n  - id: {KEY}\n    algorithm: hmac-sha256\n    secret: {secret}\n" if secret else ""
        key += f"acl:\n  - id: update\n    action: [update, transfer]\n    key: {KEY}\n" if secret else ""
        listen = "".join(f"  listen: {address}@{self.port}\n" for address in addresses)
        (folder / "knot.conf").write_text(
            f"server:\n  rundir: {folder}\n{listen}database:\n  storage: {folder}\n{key}zone:\n{listed}\n"
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
        return f"{self._first}:{self.port}"

    def trust_anchor(self, name: str) -> str:
        """The DNSKEY of a signed zone, as a resolver takes it."""
        until = time.monotonic() + START_S
        while True:
            query = dns.message.make_query(name, "DNSKEY")
            answer = dns.query.udp(query, self._first, timeout=5, port=self.port)
            keys = [data for rrset in answer.answer for data in rrset if getattr(data, "flags", 0) & 1]
            if keys:
                return f"{name}. DNSKEY {keys[0]}"
            assert time.monotonic() < until, "the zone is not signed"
            time.sleep(0.1)

    def everything(self, name: str) -> list[str]:
        """What a zone holds now, as ``name ttl type value`` without SOA, NS and what DNSSEC adds."""
        ran = subprocess.run(
            ["knotc", "-c", str(self._folder / "knot.conf"), "-b", "zone-read", name],
            check=True, capture_output=True, timeout=20, text=True,
        )  # fmt: skip
        lines = [line.partition("] ")[2] for line in ran.stdout.splitlines() if line.strip()]
        return sorted(line for line in lines if line.split()[2] not in HIDDEN)

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
        """End it; may be called again."""
        if self._process.poll() is not None:
            return
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
            f"ns A {self._elsewhere.get(name, self._first)}",
        ]
        (self._folder / name).write_text("\n".join([*head, *lines, ""]))
