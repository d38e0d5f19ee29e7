"""Ten thousand clients that connect and say nothing: whoever has something to send is served, and the crowd is gone in the end."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import smtplib
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.behaviours.live import Live
from tests.behaviours.server import wait_until

SUBMISSION, HTTP = 8000, 2000
SETTINGS = {
    "server": {"http_max_connections": 300, "http_idle_timeout_s": 2},
    "submission": {"max_connections": 300, "max_connections_per_ip": 40, "idle_timeout_s": 2},
}
GROWTH_KB = 100_000


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """The test itself holds as many connections as the whole crowd."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= SUBMISSION + HTTP + 1000, "ulimit -Hn is too low for this test"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory_kb(pid: int) -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def crowd(
    size: int, address: tuple[str, int], block: str, sources: int, closing: contextlib.ExitStack
) -> list[socket.socket]:
    """Connections from ``sources`` addresses of ``block``, silent for good."""
    made = []
    for number in range(size):
        source = (f"{block}.{number % sources + 1}", 0)
        made.append(closing.enter_context(socket.create_connection(address, 30, source)))
    return made


def replies(connections: list[socket.socket]) -> Counter[str]:
    """What each heard until the server closed it, by status."""
    heard: Counter[str] = Counter()
    for connection in connections:
        connection.settimeout(30)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(4096):
                said += data
        heard[" ".join(line[:9] for line in said.decode().splitlines())] += 1
    return heard


def submit_from(server: Live, source: str, recipient: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(*server.submission, timeout=30, source_address=(source, 0)) as client:
        client.starttls(context=context)
        client.login(*server.login)
        client.sendmail("shop@shop.test", [recipient], b"From: shop@shop.test\r\nSubject: x\r\n\r\nx\r\n")


def test_ten_thousand_silent_connections(live: Live) -> None:
    peer = live.network.peer()
    live.network.mail_domain("people.test", (10, peer.host))
    live.login  # noqa: B018 - made while there is no crowd
    front = live.pids()["front"]
    memory_before_kb, before = memory_kb(front), open_descriptors(front)
    web = httpx.URL(live.connection["http"])
    with contextlib.ExitStack() as closing:
        greedy = crowd(SUBMISSION // 2, live.submission, "127.0.3", 4, closing)
        many = crowd(SUBMISSION // 2, live.submission, "127.0.4", 200, closing)
        http = crowd(HTTP, (web.host, web.port or 0), "127.0.5", 200, closing)
        for number in range(5):
            submit_from(live, f"127.0.2.{number + 1}", f"smtp{number}@people.test")
            transport = httpx.HTTPTransport(local_address=f"127.0.2.{number + 1}")
            with httpx.Client(transport=transport, headers=live.http.headers, base_url=web, timeout=30) as client:
                body = {"from": "shop@shop.test", "to": [f"http{number}@people.test"], "subject": "x", "text": "x"}
                assert client.post("/v1/messages", json=body).status_code == 202
        assert memory_kb(front) - memory_before_kb < GROWTH_KB
        assert open_descriptors(front) < before + 700
        heard = replies(greedy)
        assert set(heard) <= {"421 4.7.0", "220 mta.s 421 4.7.0", "220 mta.s 421 4.4.2"}, heard
        assert heard["421 4.7.0"] > 0, "those over the limit of their address"
        heard = replies(many)
        assert set(heard) <= {"220 mta.s 421 4.7.0", "220 mta.s 421 4.4.2"}, heard
        assert heard["220 mta.s 421 4.4.2"] > 0, "the last ones were there until they had been idle for too long"
        assert replies(http) == {"": HTTP}
        wait_until(lambda: open_descriptors(front) <= before + 5)
    wait_until(lambda: len(peer.messages) == 10)
    assert live.pids()["front"] == front
    warnings = [line for line in live.log("front").splitlines() if "too_many_connections" in line]
    assert 2 <= len(warnings) <= 100, "said, and not thousands of times"
