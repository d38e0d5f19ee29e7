"""A real BIND on loopback, with zones that may be updated by TSIG."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.zone
import pytest

from tests.peers.knot import HIDDEN, KEY, START_S
from tests.ports import free_port


class Bind:
    """``zones`` is ``{name: [line of a zone file]}``; SOA and NS are added. ``secret``: of the TSIG key ``KEY``.

    ``signed``: with DNSSEC.
    """

    def __init__(self, folder: Path, zones: Mapping[str, list[str]], *, secret: str, signed: bool = False) -> None:
        binary = shutil.which("named") or "/usr/sbin/named"
        if not Path(binary).exists():
            pytest.fail("BIND is missing: run scripts/install-dns")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        for name, lines in zones.items():
            head = [
                f"$ORIGIN {name}.", "$TTL 1", f"@ SOA ns.{name}. hostmaster.{name}. 1 3600 600 86400 1", f"@ NS ns.{name}.",
                "ns A 127.0.0.1",
            ]  # fmt: skip
            (folder / name).write_text("\n".join([*head, *lines, ""]))
        listed = "".join(
            f'zone "{name}" {{ type primary; file "{folder / name}"; allow-update {{ key "{KEY}"; }}; allow-transfer {{ any; }};'
            f" {'dnssec-policy default;' if signed else ''} }};\n"
            for name in zones
        )
        (folder / "named.conf").write_text(
            f'key "{KEY}" {{ algorithm hmac-sha256; secret "{secret}"; }};\n'
            f'options {{ directory "{folder}"; pid-file "{folder / "pid"}"; session-keyfile "{folder / "session"}";\n'
            f"listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; }};\n"
            f"controls {{ }};\n{listed}"
        )
        self._process = subprocess.Popen(
            [binary, "-g", "-c", str(folder / "named.conf")],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        until = time.monotonic() + START_S
        while not all(self._serves(name) for name in zones):
            assert self._process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, "BIND does not start"
            time.sleep(0.05)

    @property
    def address(self) -> str:
        """As settings and resolvers take it."""
        return f"127.0.0.1:{self.port}"

    def everything(self, name: str) -> list[str]:
        """What a zone holds now, as ``name type value`` without SOA, NS and what DNSSEC adds."""
        zone = dns.zone.from_xfr(
            dns.query.xfr("127.0.0.1", f"{name}.", port=self.port, relativize=False), relativize=False
        )
        lines = [f"{at} {data.rdtype.name} {data}" for at, _, data in zone.iterate_rdatas()]
        return sorted(line for line in lines if line.split()[1] not in HIDDEN)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(20)

    def _serves(self, name: str) -> bool:
        try:
            answer = dns.query.udp(dns.message.make_query(name, "SOA"), "127.0.0.1", timeout=0.5, port=self.port)
        except (dns.exception.Timeout, OSError):
            return False
        return bool(answer.answer)
