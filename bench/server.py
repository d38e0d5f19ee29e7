"""A Mailfleet of its own for one measurement: fresh data, free ports, everything on that a user would have on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

TEMPLATE = """<html><body><h1>Hello {{ first_name }}</h1>
%s
<p>Your order {{ order }} to {{ city }} is on its way.</p></body></html>"""


def html_of(size: int) -> str:
    """A newsletter whose rendered message is about ``size`` bytes."""
    line = '<p style="margin:0">The quick brown fox jumps over the lazy dog, and does so every single day of the year.</p>\n'
    return TEMPLATE % (line * max(1, (size - 1200) // (len(line) + 12)))


class Mailfleet:
    """A running server."""

    def __init__(self, data: Path) -> None:
        connection = json.loads((data / "connection.json").read_text())
        self.data = data
        self.http = httpx.Client(
            base_url=connection["http"], headers={"Authorization": f"Bearer {connection['token']}"}, timeout=600
        )
        self.http.post("/v1/domains", json={"domain": "bench.test"}).raise_for_status()

    def start_campaign(self, recipients: list[str], size: int) -> str:
        """Upload and start; returns the campaign's id."""
        options = {
            "name": "bench",
            "from": "news@bench.test",
            "subject": "Hello {{ first_name }}",
            "html": html_of(size),
            "text": "Hello {{ first_name }}, your order {{ order }} to {{ city }} is on its way.",
        }
        lines = "email,first_name,order,city\n" + "".join(f"{one},Ann,{n},Rome\n" for n, one in enumerate(recipients))
        answer = self.http.post(
            "/v1/campaigns",
            files={
                "campaign": (None, json.dumps(options), "application/json"),
                "recipients": ("list.csv", lines, "text/csv"),
            },
        )
        answer.raise_for_status()
        return str(answer.json()["campaign"]["campaign"])

    def campaign(self, campaign: str) -> dict[str, Any]:
        """Its progress."""
        found: dict[str, Any] = self.http.get(f"/v1/campaigns/{campaign}").raise_for_status().json()
        return found

    def wait(self, campaign: str, within_s: float = 600) -> dict[str, Any]:
        """Until it has finished."""
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s:
            found = self.campaign(campaign)
            if found["state"] == "finished":
                return found
            time.sleep(0.2)
        raise SystemExit(f"the campaign did not finish within {within_s} s: {found}")


@contextlib.contextmanager
def mailfleet(dns_port: int, smtp_port: int, **env: str) -> Iterator[Mailfleet]:
    """Start a server that delivers to ``smtp_port`` on loopback."""
    with tempfile.TemporaryDirectory(prefix="mailfleet-bench-") as folder:
        data = Path(folder) / "data"
        settings = {
            "MAILFLEET_SERVER__HTTP_LISTEN": "127.0.0.1:0",
            "MAILFLEET_SERVER__HOSTNAME": "mail.bench.test",
            "MAILFLEET_SUBMISSION__LISTEN": "127.0.0.1:0",
            "MAILFLEET_DNS__NAMESERVERS": json.dumps([f"127.0.0.1:{dns_port}"]),
            "MAILFLEET_DELIVERY__REMOTE_PORT": str(smtp_port),
            "MAILFLEET_DELIVERY__LOOPBACK_ONLY": "true",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "mailfleet", "serve", "--data", str(data)],
            env={**os.environ, **settings, **env},
            stdout=subprocess.DEVNULL,
        )
        try:
            until_s = time.monotonic() + 60
            while not (data / "connection.json").exists() or b'"http"' not in (data / "connection.json").read_bytes():
                if process.poll() is not None or time.monotonic() > until_s:
                    raise SystemExit("the server did not start")
                time.sleep(0.05)
            yield Mailfleet(data)
        finally:
            process.terminate()
            process.wait(60)
