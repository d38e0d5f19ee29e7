"""A real ACME server on loopback: Pebble, which looks for its proofs at ports that the test names."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import trustme

from tests.ports import free_port

START_S = 60.0
PROGRAM = Path(__file__).parents[2] / ".cache" / "peers" / "pebble" / "usr" / "bin" / "pebble"


class Pebble:
    """``dns`` is ``address:port`` of who knows the hosts; ``life_s`` is how long its certificates are good for."""

    def __init__(self, folder: Path, *, dns: str, http_port: int, tls_port: int, life_s: int = 90 * 86_400) -> None:
        if not PROGRAM.exists():
            pytest.fail("Pebble is missing: run scripts/install-pebble")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._dns = folder, dns
        self.port, self._manage = free_port(), free_port()
        authority = trustme.CA()
        own = authority.issue_cert("localhost", "127.0.0.1")
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        own.private_key_pem.write_to_path(folder / "key.pem")
        own.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        config = {
            "pebble": {
                "listenAddress": f"127.0.0.1:{self.port}",
                "managementListenAddress": f"127.0.0.1:{self._manage}",
                "certificate": str(folder / "cert.pem"),
                "privateKey": str(folder / "key.pem"),
                "httpPort": http_port,
                "tlsPort": tls_port,
                "ocspResponderURL": "",
                "externalAccountBindingRequired": False,
                "certificateValidityPeriod": life_s,
            }
        }
        (folder / "config.json").write_text(json.dumps(config))
        self.start()

    @property
    def directory(self) -> str:
        """Where certificates are asked for."""
        return f"https://localhost:{self.port}/dir"

    def start(self) -> None:
        """It forgets accounts and certificates, and has other roots, at each start."""
        self._process = subprocess.Popen(
            [str(PROGRAM), "-config", str(self.folder / "config.json"), "-dnsserver", self._dns, "-strict"],
            stdout=(self.folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
            env={**os.environ, "PEBBLE_VA_NOSLEEP": "1"},
        )
        until = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "Pebble does not start"
            time.sleep(0.05)

    def root(self) -> str:
        """The root that its certificates lead to, PEM."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        address = f"https://localhost:{self._manage}/roots/0"
        with urllib.request.urlopen(address, context=context) as answer:
            text: str = answer.read().decode()
        return text

    def log(self) -> str:
        """What it did."""
        return (self.folder / "log").read_text()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(20)

    def _answers(self) -> bool:
        return all(self._listens(port) for port in (self.port, self._manage))

    @staticmethod
    def _listens(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
