"""kill -9 of each process by itself, again and again, while a campaign, submission and the API are all at work.

Nothing that was accepted is lost. Nothing whose 250 the killed process had read is sent again, and every repeat is told.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mailfleet.engine.journal import replay
from mailfleet.sandbox import journal
from tests.behaviours.server import Server, Settings, wait_until

SEED = int(os.environ.get("KILL_SEED", "7"))
KILLS = {"front": 4, "deliver-0": 4, "deliver-1": 4, "jobs": 3, "supervisor": 2}
RECIPIENTS = 600
DOMAINS = ("gmail.com", "outlook.com", "one.example", "two.example", "three.example")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Few connections, so that the campaign is still under way when the last kill comes
    settings: Settings = {
        "delivery": {"connections_per_site": 2},
        "sandbox": {"time_scale": 2880},
        "retry": {"bulk": {"expire_after_s": 30 * 86400}},  # nothing expires, however slow the machine is
    }
    with Server(tmp_path_factory.mktemp("killed"), settings) as started:
        yield started


class Load:
    """Clients that send one message after the other. ``accepted`` holds the recipients of those that were answered well."""

    def __init__(self, server: Server, name: str) -> None:
        self._server, self._name = server, name
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._submit, self._post)]
        self.accepted: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _addresses(self, kind: str) -> Iterator[str]:
        number = 0
        while not self._stop.is_set():
            number += 1
            yield f"ok-{self._name}-{kind}{number}@{DOMAINS[number % len(DOMAINS)]}"

    def _submit(self) -> None:
        """By SMTP, a connection for some messages. Who hears no 250 does not know, and sends its next one."""
        told = self._server.connection
        host, _, port = told["smtp"].rpartition(":")
        addresses = self._addresses("smtp")
        for first in addresses:
            with (
                contextlib.suppress(OSError, smtplib.SMTPException),
                smtplib.SMTP(host, int(port), timeout=30) as client,
            ):
                client.login(told["smtp_user"], told["smtp_password"])
                for address in itertools.chain([first], itertools.islice(addresses, 5)):
                    client.sendmail(
                        "shop@shop.example", [address], b"From: shop@shop.example\r\nSubject: x\r\n\r\nx\r\n"
                    )
                    self.accepted.append(address)

    def _post(self) -> None:
        """By HTTP, each until it is answered, under a key."""
        told = self._server.connection
        headers = {"Authorization": f"Bearer {told['token']}"}
        with httpx.Client(base_url=told["http"], headers=headers, timeout=30, trust_env=False) as client:
            for address in self._addresses("http"):
                body = {"from": "shop@shop.example", "to": [address], "subject": "x", "text": "x"}
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        answer = client.post("/v1/messages", json=body, headers={"Idempotency-Key": address})
                        assert answer.status_code == 202, answer.text
                        self.accepted.append(address)
                        break
                    time.sleep(0.02)


def kill(server: Server, role: str) -> set[str]:
    """End a process. The recipients whose 250 it had put on record and not settled, read while it stood still."""
    if role == "supervisor":
        server.kill_supervisor()
        server.start()
        return set()
    pid = wait_until(lambda: server.pids().get(role, 0), what=lambda: f"{role} does not run")
    os.kill(pid, signal.SIGSTOP)
    on_record = read_on_record(server.data / "run", int(role[-1])) if role.startswith("deliver-") else set()
    server.end(role, pid)
    if not on_record:
        return set()
    marks = ", ".join(map(str, on_record))
    return {str(row[0]) for row in server.rows(f"SELECT address FROM delivery WHERE id IN ({marks})")}


def read_on_record(run: Path, slot: int) -> set[int]:
    leases = {int(path.name.split("-")[2]) for path in run.glob(f"journal-{slot}-*")}
    return {one for lease in leases for one in replay(run, slot, lease).accepted}


@pytest.mark.parametrize("role", KILLS)
@pytest.mark.timeout(180)
def test_kill(server: Server, role: str, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(f"{SEED} {role}")
    people = [f"{'grey' if n % 20 == 0 else 'ok'}-{role}-{n}@{rng.choice(DOMAINS)}" for n in range(RECIPIENTS)]
    read_ms: dict[str, int] = {}
    with Load(server, role) as load:
        campaign = server.campaign(people)["campaign"]
        for number in range(KILLS[role]):
            due = (number + rng.random()) * RECIPIENTS * 0.8 / KILLS[role]
            wait_until(lambda due=due: done(server, campaign) >= due, what=server.output)  # type: ignore[misc]
            time.sleep(rng.random() * 0.05)
            read = kill(server, role)
            read_ms = dict.fromkeys(read, round(time.time() * 1000)) | read_ms
    view = server.wait_campaign(campaign)
    assert view["delivered"] == RECIPIENTS
    expected = {*people, *load.accepted}
    assert len(load.accepted) > 10
    wait_until(
        lambda: expected <= delivered(server), what=lambda: f"lost: {expected - delivered(server)}\n{server.output()}"
    )
    rows = Counter(str(row[0]) for row in server.rows("SELECT address FROM delivery"))
    assert set(rows.values()) == {1}, "no request was taken twice"
    repeats = check_repeats(server, expected, read_ms)
    with capsys.disabled():
        print(
            f"\n  seed {SEED}, {role} killed {KILLS[role]} times: {len(read_ms)} on record, {repeats} repeats of {len(expected)}"
        )


def done(server: Server, campaign: str) -> int:
    view = server.get(f"/v1/campaigns/{campaign}")
    return int(view["recipients"]) - int(view["pending"])


def delivered(server: Server) -> set[str]:
    """As the server says; the providers are asked about repeats."""
    return {str(row[0]) for row in server.rows("SELECT address FROM delivery WHERE state = 3")}


def check_repeats(server: Server, expected: set[str], read_ms: dict[str, int]) -> int:
    """Every message that a provider took twice is told of, and none was sent after its 250 had been on record."""
    repeats = [one for _, one in journal.read(server.data) if one.accepted and one.repeat and one.recipient in expected]
    for one in repeats:
        assert one.at_ms <= read_ms.get(one.recipient, one.at_ms), f"{one.recipient} was sent again"
        found = server.rows(
            "SELECT e.kind, e.data FROM event e JOIN delivery d ON d.id = e.delivery_id"
            f" WHERE d.address = '{one.recipient}' ORDER BY e.id"
        )
        told = [kind for kind, data in found if kind == "repeat_possible" or "hung_up" in (data or "")]
        assert told, f"{one.recipient} went twice and nothing says so: {found}"
    return len(repeats)
