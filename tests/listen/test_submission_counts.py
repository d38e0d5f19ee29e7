"""What submission lets in and what it refuses is counted, by the reason that the page of bounds names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailfleet.base.errors import BusyError, InputError
from mailfleet.smtp.reply import Reply
from tests.listen.submission_peer import LOGIN, Running, running, until

BODY = b"From: a@b.example\r\n\r\nhello\r\n.\r\n"


def refused(server: Running) -> dict[str, float]:
    """Reasons that were counted."""
    lines = server.gauges.snapshot()
    return {one.labels[0]: one.value for one in lines if one.name == "submission_refusals_total" and one.value}


def value(server: Running, name: str, *labels: str) -> float:
    return next((one.value for one in server.gauges.snapshot() if (one.name, one.labels) == (name, labels)), 0)


async def test_connections_and_messages(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.in_data()
        assert value(server, "submission_connections") == 1
        assert (await client.replies(BODY))[0].startswith("250")
        client.close()
        await until(lambda: value(server, "submission_connections") == 0)
        assert value(server, "submission_connections_total") == 1
        assert value(server, "submission_messages_total") == 1
        assert refused(server) == {}


async def test_bounds_of_connections(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=2, max_connections_per_ip=1) as server:
        clients = [await server.connect(local=local) for local in ("127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.4")]
        assert [(await client.reply())[:3] for client in clients] == ["220", "421", "220", "220"]
        assert [said[:3] for said in await clients[0].rest()] == ["421"], "it makes room for the last one"
        assert refused(server) == {"max_connections_per_ip": 1, "max_connections": 1}
        assert value(server, "submission_replies_total", "421") == 2


async def test_logins_senders_recipients_and_replies_of_the_protocol(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.connect()
        await client.replies(b"EHLO c.example\r\nAUTH PLAIN AGFubgB3cm9uZw==\r\n" + LOGIN, 4)
        await client.replies(b"MAIL FROM:<refused@b.example>\r\nMAIL FROM:<a@b.example>\r\n", 2)
        await client.replies(b"RCPT TO:<refused@d.example>\r\nNONSENSE\r\n", 2)
        assert refused(server) == {"login": 1, "sender": 1, "recipient": 1}
        codes = {code: value(server, "submission_replies_total", code) for code in ("535", "553", "550", "500")}
        assert codes == {"535": 1, "553": 1, "550": 1, "500": 1}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [(InputError("no"), "message"), (BusyError("full"), "busy"), (RuntimeError("bug"), "failed")],
)
async def test_messages_that_are_not_taken(tmp_path: Path, wrong: Exception, reason: str) -> None:
    async with running(tmp_path) as server:
        client = await server.in_data()
        server.backend.wrong = wrong
        await client.replies(BODY)
        assert refused(server) == {reason: 1}
        assert value(server, "submission_messages_total") == 0


async def test_a_house_that_takes_nothing_and_one_that_holds_too_much(tmp_path: Path) -> None:
    async with running(tmp_path, max_buffered_mb=1) as server:
        client = await server.in_data()
        client.writer.write((b"x" * 68 + b"\r\n") * 10_000)
        await until(lambda: value(server, "submission_buffered_bytes") > 600_000)
        other = await server.logged_in()
        said = await other.replies(b"MAIL FROM:<a@b.example> SIZE=900000\r\nRCPT TO:<c@d.example>\r\nDATA\r\n", 3)
        assert said[-1].startswith("451")
        server.backend.full = Reply.of(451, "4.3.1", "full")
        await (await server.logged_in()).replies(b"MAIL FROM:<a@b.example>\r\n")
        assert refused(server) == {"max_buffered_mb": 1, "full": 1}


async def test_silence_and_dripping(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout_s=0.2) as server:
        await (await server.connect()).rest()
        assert refused(server) == {"idle_timeout_s": 1}
    async with running(tmp_path, message_timeout_s=0.2) as server:
        await (await server.in_data()).rest()
        assert refused(server) == {"message_timeout_s": 1}
