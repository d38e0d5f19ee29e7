"""A whole Mailfleet: ``mailfleet serve`` as its own process tree in a folder of its own, and all that a test asks of it.

Ports are free ones, and the sandbox's addresses lie in a block of loopback that no other run uses.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from mailfleet.sandbox import inbox, report
from mailfleet.sandbox.inbox import StoredMessage
from mailfleet.store.sqlite import open_connection
from tests.behaviours import fork_server
from tests.ports import free_port
from tests.store.cluster import fetch, wait

T = TypeVar("T")
Settings = Mapping[str, Mapping[str, Any]]
Process = subprocess.Popen[bytes] | fork_server.Forked

START_S = 120.0
PATIENCE_S = 60.0
FINAL = frozenset({"delivered", "bounced", "expired", "suppressed", "cancelled"})


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Every line of standard output as JSON."""
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]

    @property
    def last(self) -> dict[str, Any]:
        """The last line of standard output as JSON."""
        return self.objects[-1]


class Server:
    """One data folder and the server on it. ``settings`` is ``{section: {key: value}}`` as in mailfleet.toml.

    ``rates`` replaces the sandbox's shares; as it stands nobody but the local-parts decides.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings | None = None,
        *,
        sandbox: bool = True,
        rates: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.sandbox = sandbox
        self.block = free_block()
        self._settings = merged(self._own_settings(), settings or {})
        self.process: Process | None = None
        self.surroundings: dict[str, str] = {}  # further environment variables, for the server a real start
        self._http: httpx.Client | None = None
        if sandbox:
            _write_rates(self.data / "sandbox", rates or {"*": {}})

    def _own_settings(self) -> dict[str, dict[str, Any]]:
        own: dict[str, dict[str, Any]] = {
            "server": {"http_listen": f"127.0.0.1:{free_port()}"},
            "submission": {"listen": f"127.0.0.1:{free_port()}"},
            # Lists of tests bounce and are refused as no real list may.
            "delivery": {"workers": 2, "shaping": False},
            "reputation": {"brakes": False},
        }
        if self.sandbox:
            own["sandbox"] = {
                "smtp_port": free_port(f"{self.block}.1"),
                "dns_port": free_port(),
                "address_base": f"{self.block}.0",
            }
        return own

    # Life

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which server and commands run: none of the settings of whoever runs the tests."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAILFLEET_")}
        told = {
            f"MAILFLEET_{section}__{key}".upper(): value if isinstance(value, str) else json.dumps(value)
            for section, values in self._settings.items()
            for key, value in values.items()
        }
        return {**kept, **told, **self.surroundings, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}

    def setting(self, section: str, key: str) -> Any:
        """A setting as this server got it."""
        return self._settings[section][key]

    def change(self, section: str, key: str, value: object) -> None:
        """Change a setting; holds from the next start on."""
        self._settings = merged(self._settings, {section: {key: value}})

    def launch(self) -> Process:
        """Start the process and wait for nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["serve", "--data", str(self.data), *(["--sandbox"] if self.sandbox else [])]
        with (self.folder / "output").open("ab") as output, open(os.devnull, "rb") as nothing:
            if self.surroundings:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "mailfleet", *command],
                    cwd=self.folder,
                    env=self.environment,
                    stdin=nothing,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            else:
                streams = nothing.fileno(), output.fileno(), output.fileno()
                self.process = fork_server.start(command, self.folder, self.environment, streams, session=True)
        return self.process

    def start(self) -> Server:
        """Start, and wait until the entrances of this very start are open and every role runs."""
        started_ns = time.time_ns()
        process = self.launch()

        def ready() -> bool:
            assert process.poll() is None, f"the server ended with {process.returncode}:\n{self.output()}"
            with contextlib.suppress(OSError, ValueError):
                if (self.data / "connection.json").stat().st_mtime_ns > started_ns:
                    return "http" in self.connection and self.healthy()
            return False

        wait_until(ready, START_S, lambda: f"the server did not come up:\n{self.output()}")
        wait_until(lambda: self.roles <= set(self.pids()), what=lambda: f"roles are missing:\n{self.output()}")
        return self

    def healthy(self) -> bool:
        """Whether the API answers."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.connection["http"] + "/health/live", trust_env=False).status_code == 200
        return False

    def stop(self) -> int:
        """SIGTERM to the supervisor; the exit status."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code

    def restart(self) -> Server:
        """Stop, start again."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Leave nothing running, whatever happened."""
        if self._http is not None:
            self._http.close()
            self._http = None
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def __enter__(self) -> Server:
        try:
            return self.start()
        except BaseException:
            self.close()  # __exit__ is not called then
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # Processes

    @property
    def roles(self) -> set[str]:
        """Those that run when all is well."""
        deliver = {f"deliver-{slot}" for slot in range(self.setting("delivery", "workers"))}
        return {"front", "jobs", *deliver, *(["sandbox"] if self.sandbox else [])}

    def pids(self) -> dict[str, int]:
        """Role -> process id, of those that run now."""
        found = {}
        for path in (self.data / "run").glob("*.pid"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(path.read_text())
                if Path(f"/proc/{pid}/comm").read_text().strip() == f"mf-{path.stem}"[:15]:
                    found[path.stem] = pid
        return found

    def kill(self, role: str) -> None:
        """SIGKILL to one role, as soon as it runs."""
        pid = wait_until(lambda: self.pids().get(role, 0), what=lambda: f"{role} does not run")
        self.end(role, pid)

    def end(self, role: str, pid: int) -> None:
        """SIGKILL to the process of a role; over when it is gone, so that the next one to be killed is another."""
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.pids().get(role) != pid, what=lambda: f"{role} was killed and is still there")

    def kill_supervisor(self) -> None:
        """SIGKILL to the supervisor; the roles notice and stop by themselves."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    # Asking

    @property
    def connection(self) -> dict[str, str]:
        """connection.json as it is now."""
        found: dict[str, str] = json.loads((self.data / "connection.json").read_text())
        return found

    @property
    def http(self) -> httpx.Client:
        """A client of the API with the token of this folder."""
        told = self.connection
        if self._http is None:
            self._http = httpx.Client(
                base_url=told["http"],
                headers={"Authorization": f"Bearer {told['token']}"},
                timeout=60,
                trust_env=False,
                transport=httpx.HTTPTransport(retries=3),
            )
        return self._http

    def get(self, path: str, **params: object) -> Any:
        """The JSON answer to GET, through restarts of the front and of its database."""
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            try:
                answer = self.http.get(path, params={key: str(value) for key, value in params.items()})
            except httpx.TransportError:
                time.sleep(0.2)
                continue
            if answer.status_code == 429:  # as when its database has just come back
                time.sleep(0.2)
                continue
            assert answer.is_success, answer.text
            return answer.json()
        raise AssertionError(f"the API does not come back:\n{self.output()}")

    def post(self, path: str, body: object = None, **headers: str) -> Any:
        """The JSON answer to POST."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.http.post(path, json=body if body is not None else {}, headers=names)
        assert answer.is_success, answer.text
        return answer.json()

    def pages(self, path: str, **params: object) -> Iterator[dict[str, Any]]:
        """Every item of a listing."""
        after: dict[str, object] = {}
        while True:
            page = self.get(path, limit=500, **params, **after)
            yield from page["items"]
            if page["next"] is None:
                return
            after = {"after": page["next"]}

    def events(self, **only: object) -> list[dict[str, Any]]:
        """Every event, oldest first; ``kind``, ``campaign``, ``delivery`` narrow it down."""
        return list(self.pages("/v1/events", **only))

    def deliveries(self, campaign: str) -> list[dict[str, Any]]:
        """Every delivery of a campaign."""
        return list(self.pages(f"/v1/campaigns/{campaign}/deliveries"))

    def cli(self, *arguments: str, text: str | None = None, data: bool = True) -> Ran:
        """Run ``mailfleet`` with ``arguments`` on this folder."""
        line = [*arguments, *(["--data", str(self.data)] if data else [])]
        done = fork_server.run(line, self.folder, self.environment, text, timeout=150)
        return Ran(done.returncode, done.stdout, done.stderr)

    def output(self) -> str:
        """What the server printed and logged, for the eyes of whoever reads a failure."""
        logs = [self.folder / "output", *sorted((self.data / "log").glob("*"))]
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in logs if path.exists()
        )

    def log(self, role: str) -> str:
        """The whole log of a role."""
        return "".join(path.read_text(errors="replace") for path in sorted((self.data / "log").glob(f"{role}*")))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database holds, read beside the server or after it: for what no interface shows."""
        url = str(self._settings.get("database", {}).get("url", ""))
        if url:
            return wait(fetch(url, sql))
        connection = open_connection(self.data / "mailfleet.db", readonly=True)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    # Sending

    def campaign(self, recipients: Sequence[object], **content: object) -> dict[str, Any]:
        """Hand over a campaign as JSON; the answer's ``campaign``."""
        body = {
            "from": "Shop <news@shop.example>",
            "subject": "News",
            "text": "Hello\n",
            "recipients": list(recipients),
        }
        accepted = self.post("/v1/campaigns", {**body, **content})
        found: dict[str, Any] = accepted["campaign"]
        return found

    def message(self, to: str, **content: object) -> str:
        """Hand over one message; its delivery's id."""
        body = {"from": "shop@shop.example", "to": [to], "subject": "Your order", "text": "Thank you\n"}
        delivery: str = self.post("/v1/messages", {**body, **content})["deliveries"][0]["delivery"]
        return delivery

    def wait_campaign(self, campaign: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """The view of the campaign once it is over."""
        view: dict[str, Any] = {}

        def over() -> bool:
            nonlocal view
            view = self.get(f"/v1/campaigns/{campaign}")
            return view["state"] in ("finished", "cancelled") and not view["pending"]

        wait_until(over, patience_s, lambda: f"the campaign does not end: {view}\n{self.output()}")
        return view

    def wait_delivery(self, delivery: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """The whole story of a delivery once it is over: ``{"delivery": ..., "events": [...]}``."""
        story: dict[str, Any] = {}

        def over() -> bool:
            nonlocal story
            story = self.get(f"/v1/deliveries/{delivery}")
            return story["delivery"]["state"] in FINAL

        wait_until(over, patience_s, lambda: f"the delivery does not end: {story}\n{self.output()}")
        return story

    # What the simulated providers say

    def report(self) -> dict[str, Any]:
        """``mailfleet.sandbox.report``: counts by provider and in total."""
        return report.report(self.data)

    def outcomes(self) -> list[tuple[str, str, str]]:
        """Recipient, Message-ID, final: what the providers decided last on every delivery that reached one."""
        return list(report.outcomes(self.data))

    def inbox(self, address: str | None = None) -> list[StoredMessage]:
        """Accepted mail, oldest first, repeats included."""
        return list(inbox.messages(self.data, address))


def wait_until(
    found: Callable[[], T | None], patience_s: float = PATIENCE_S, what: Callable[[], str] = lambda: "it did not happen"
) -> T:
    """The first true value of ``found``. The bound is patience, not a promise of speed."""
    give_up_at = time.monotonic() + patience_s
    while not (value := found()):
        if time.monotonic() > give_up_at:
            raise AssertionError(what())
        time.sleep(0.05)
    return value


def free_block() -> str:
    """The first three numbers of a piece of loopback of one's own."""
    rng = random.Random()
    return f"127.{rng.randrange(20, 250)}.{rng.randrange(1, 250)}"


def merged(one: Settings, other: Settings) -> dict[str, dict[str, Any]]:
    """Settings with ``other`` put over ``one``, key by key."""
    return {section: {**one.get(section, {}), **other.get(section, {})} for section in {**one, **other}}


def _write_rates(folder: Path, rates: Mapping[str, Mapping[str, float]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = ""
    for provider, shares in rates.items():
        text += f"[{json.dumps(provider)}]\n" + "".join(f"{manner} = {share}\n" for manner, share in shares.items())
    (folder / "rates.toml").write_text(text)
