"""A Mailfleet of its own for one measurement: fresh data, free ports, everything on that a user would have on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from bench.handover import Relay
from bench.messages import SENDER, SENDING_DOMAIN, TEXT, html_of
from bench.network import Network
from bench.processes import BenchError, running, tail, wait_until, work_folder

NAME = "mailfleet"
DURABILITY = (
    "202 and 250 after a commit that is on disk (SQLite WAL, synchronous=FULL); outcomes are settled the same way"
)
SESSIONS = 50
SETTINGS = {
    "server.hostname": "mail.bench.test",
    "submission.auth_without_tls_on_loopback": "true",
    "delivery.loopback_only": "true",
}


class Mailfleet:
    """A running server. ``alive`` raises ``BenchError`` when it has ended."""

    def __init__(self, data: Path) -> None:
        connection = json.loads((data / "connection.json").read_text())
        self.data = data
        self.connection: dict[str, str] = connection
        self.http = httpx.Client(
            base_url=connection["http"], headers={"Authorization": f"Bearer {connection['token']}"}, timeout=600
        )
        domain = self.post("/v1/domains", {"domain": SENDING_DOMAIN})
        self.keys = {
            record["name"].rstrip("."): record["value"]
            for record in domain["records"]
            if record["type"] == "TXT" and "._domainkey." in record["name"]
        }

    def get(self, path: str) -> Any:
        """What a GET answers. Raises ``BenchError`` with the answer when it is an error."""
        return self._checked(self.http.get(path))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """What a POST of JSON answers. Raises ``BenchError`` with the answer when it is an error."""
        return self._checked(self.http.post(path, json=dict(body)))

    def log(self) -> str:
        """The ends of its logs."""
        return tail(*sorted((self.data / "log").glob("*.log")), self.data.parent / "output")

    def start_campaign(self, recipients: list[str], **options: Any) -> str:
        """Upload and start; returns the campaign's id once it is accepted."""
        campaign = {
            "name": "bench",
            "subject": "Hello {{ first_name }}",
            "html": html_of(),
            "text": TEXT,
            "from": SENDER,
        }
        rows = (f"{one},Ann,{number},Rome\n" for number, one in enumerate(recipients))
        answer = self._checked(
            self.http.post(
                "/v1/campaigns",
                files={
                    "campaign": (None, json.dumps(campaign | options), "application/json"),
                    "recipients": ("list.csv", "email,first_name,order,city\n" + "".join(rows), "text/csv"),
                },
            )
        )
        return str(answer["campaign"]["campaign"])

    def wait(self, campaign: str, stall_s: float = 60) -> dict[str, Any]:
        """Until a campaign has finished; raises ``BenchError`` when it stands still for ``stall_s``."""
        seen, moved_s = -1, time.monotonic()
        while True:
            found: dict[str, Any] = self.get(f"/v1/campaigns/{campaign}")
            if found["state"] == "finished":
                return found
            if found["delivered"] != seen:
                seen, moved_s = found["delivered"], time.monotonic()
            if time.monotonic() - moved_s > stall_s:
                raise BenchError(f"a campaign stands still: {found}\n{self.log()}")
            time.sleep(0.05)

    def relay(self) -> Relay:
        """Its submission entrance, with a login."""
        login = self.post("/v1/credentials", {"username": f"load{time.monotonic_ns()}", "stream": "bulk"})
        port = int(self.connection["smtp"].rpartition(":")[2])
        return Relay(
            NAME, port, SESSIONS, self.keys, self.alive, self.log, login["username"], login["password"], settings=told()
        )

    def alive(self) -> None:
        """Raises ``BenchError`` when the server does not answer."""
        try:
            self.get("/health/live")
        except httpx.HTTPError as error:
            raise BenchError(f"Mailfleet does not answer: {error}") from None

    def memory_mb(self) -> dict[str, dict[str, float]]:
        """PSS and RSS of each role, in MB."""
        found = {}
        for path in sorted((self.data / "run").glob("*.pid")):
            rollup = Path(f"/proc/{path.read_text().strip()}/smaps_rollup").read_text()
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
            found[path.stem] = {"pss": round(sizes["Pss"] / 1024, 1), "rss": round(sizes["Rss"] / 1024, 1)}
        return found

    def database_mb(self) -> float:
        """The size of the database's files, in MB."""
        return round(sum(path.stat().st_size for path in self.data.glob("mailfleet.db*")) / 1e6, 1)

    def _checked(self, answer: httpx.Response) -> Any:
        if answer.is_error:
            raise BenchError(f"Mailfleet answered {answer.status_code}: {answer.text[:1000]}\n{self.log()}")
        return answer.json()


def told() -> dict[str, Any]:
    """The settings, for the record."""
    note = "every other setting has its default, workers = one a core"
    return {"sessions of the load generator": SESSIONS, **SETTINGS, "note": note}


@contextlib.contextmanager
def mailfleet(network: Network, **more: str) -> Iterator[Mailfleet]:
    """Start a server that delivers to the network. ``more`` are environment variables."""
    with work_folder("mailfleet") as folder:
        data = folder / "data"
        settings = {
            "MAILFLEET_SERVER__HTTP_LISTEN": "127.0.0.1:0",
            "MAILFLEET_SUBMISSION__LISTEN": "127.0.0.1:0",
            "MAILFLEET_DNS__NAMESERVERS": json.dumps([f"127.0.0.1:{network.dns_port}"]),
            "MAILFLEET_DELIVERY__REMOTE_PORT": str(network.port),
        }
        settings |= {f"MAILFLEET_{name.replace('.', '__').upper()}": value for name, value in SETTINGS.items()}
        command = [sys.executable, "-m", "mailfleet", "serve", "--data", str(data)]
        output = folder / "output"
        environment = {**os.environ, **settings, **more}
        # its banner names a token, which belongs in no log
        with running(command, output, env=environment, stdout=subprocess.DEVNULL) as process:
            wait_until(lambda: _announced(data), process, "Mailfleet", lambda: tail(output))
            yield Mailfleet(data)


def _announced(data: Path) -> bool:
    """Are both entrances open?"""
    path = data / "connection.json"
    return path.exists() and {"http", "smtp"} <= json.loads(path.read_bytes()).keys()
