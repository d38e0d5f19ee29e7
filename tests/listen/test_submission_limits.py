"""Clients that are slow, silent, endless, greedy or gone: each is bounded, and what was accepted is kept."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from mailfleet.base.clock import SystemClock
from mailfleet.base.errors import BusyError, ConfigError, InputError
from mailfleet.config.settings import Submission
from mailfleet.listen.submission import SubmissionListener
from mailfleet.smtp.reply import RefusedMessage, Reply
from tests.listen.submission_peer import LOGIN, Client, RecordingBackend, running, until

BODY = b"From: a@b.example\r\n\r\nhello\r\n"


async def test_too_many_connections_from_one_address(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections_per_ip=2) as server:
        clients = [await server.connect() for _ in range(3)]
        assert [(await c.reply())[:9] for c in clients] == ["220 mx.ex", "220 mx.ex", "421 4.7.0"]
        assert await clients[2].rest() == []
        other = await server.connect(local="127.0.0.2")
        assert (await other.reply()).startswith("220")
        await clients[0].replies(b"QUIT\r\n")
        assert await clients[0].rest() == []
        again = await server.connect()
        assert (await again.reply()).startswith("220")


async def test_too_many_connections_in_all(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=2) as server:
        first, _ = await server.logged_in(), await server.logged_in()
        third = await server.connect(local="127.0.0.3")
        assert (await third.reply()).startswith("421 4.7.0")
        first.close()
        await until(lambda: len(server.listener._connections) == 1)
        assert (await (await server.connect(local="127.0.0.3")).reply()).startswith("220")


async def test_who_has_not_logged_in_makes_room_for_a_newcomer(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections=3) as server:
        client = await server.logged_in()
        silent = [await server.connect(local="127.0.0.2") for _ in range(2)]
        newcomer = await server.connect(local="127.0.0.3")
        assert (await newcomer.reply()).startswith("220")
        assert [said[:9] for said in await silent[0].rest()] == ["220 mx.ex", "421 4.7.0"]
        assert (await silent[1].reply()).startswith("220")
        assert [said[:3] for said in await client.replies(b"NOOP\r\n")] == ["250"]


async def test_a_handshake_counts_as_a_connection(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections_per_ip=1) as server:
        _, silent = await asyncio.open_connection("127.0.0.1", server.tls_port)
        await until(lambda: len(server.listener._connections) == 1)
        assert (await (await server.connect()).reply()).startswith("421 4.7.0")
        silent.close()


async def test_a_handshake_has_a_time_limit_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout_s=0.3) as server:
        reader, silent = await asyncio.open_connection("127.0.0.1", server.tls_port)
        assert await reader.read() == b""
        await until(lambda: not server.listener._connections)
        silent.close()


async def test_a_silent_client_is_told_and_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout_s=0.2) as server:
        client = await server.connect()
        assert (await client.reply()).startswith("220")
        assert [said[:9] for said in await client.rest()] == ["421 4.4.2"]
        client.close()
        await until(lambda: not server.listener._connections)


async def test_dripping_a_command_does_not_extend_the_idle_time(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout_s=0.3) as server:
        client = await server.connect()
        dripping = asyncio.create_task(_drip(client, b"N"))
        assert [said[:3] for said in await client.rest()] == ["220", "421"]
        dripping.cancel()


async def test_dripping_a_message_has_an_end(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout_s=5, message_timeout_s=0.3) as server:
        client = await server.in_data()
        dripping = asyncio.create_task(_drip(client, b"x\r\n"))
        assert [said[:9] for said in await client.rest()] == ["421 4.4.2"]
        dripping.cancel()
        assert not server.backend.messages


async def test_chunks_that_never_end_have_an_end(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout_s=5, message_timeout_s=0.3) as server:
        client = await server.logged_in()
        await client.replies(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", 2)
        dripping = asyncio.create_task(_drip(client, b"BDAT 2\r\n\r\n"))
        assert (await client.rest())[-1].startswith("421 4.4.2")
        dripping.cancel()


async def _drip(client: Client, piece: bytes) -> None:
    while True:
        client.writer.write(piece)
        await asyncio.sleep(0.02)


async def test_the_backends_time_is_not_the_clients(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout_s=0.2, message_timeout_s=0.2) as server:
        server.backend.gate = asyncio.Event()
        server.clock.stands_at_s = 0.0  # whatever the client takes to get there
        client = await server.in_data()
        client.writer.write(BODY + b".\r\n")
        await server.backend.asked.wait()
        server.clock.stands_at_s = None
        await asyncio.sleep(0.6)
        server.backend.gate.set()
        assert await client.reply() == "250 2.0.0 Ok: queued as q1"


async def test_an_endless_line_is_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.connect()
        await client.reply()
        with contextlib.suppress(ConnectionError):
            while not server.listener.buffered_bytes > 20_000 and server.listener._connections:
                client.writer.write(b"x" * 4000)
                await asyncio.sleep(0)
                if client.reader.at_eof() or client.reader._buffer:  # type: ignore[attr-defined] # peek without reading
                    break
        assert (await client.reply()).startswith("500 5.5.2")
        assert server.listener.buffered_bytes == 0


async def test_an_endless_line_in_a_message_holds_no_memory(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.in_data()
        for _ in range(100):
            client.writer.write(b"x" * 50_000)
            await client.writer.drain()
            assert server.listener.buffered_bytes < 400_000
        assert (await client.replies(b"\r\n.\r\n"))[0].startswith("552 5.3.4")
        assert server.listener.buffered_bytes == 0


async def test_a_client_that_reads_no_replies_is_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout_s=0.5) as server:
        client = await server.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket transport has it
        with contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(2000):
                client.writer.write(b"HELP\r\n" * 2000)
                await asyncio.wait_for(client.writer.drain(), 0.2)
        assert server.listener.buffered_bytes < 1_000_000
        await until(lambda: not server.listener._connections)


async def test_message_bytes_over_all_connections_are_bounded(tmp_path: Path) -> None:
    async with running(tmp_path, max_buffered_mb=1) as server:
        first, second = await server.in_data(), await server.in_data()
        line = b"x" * 98 + b"\r\n"
        first.writer.write(line * 7000)
        await until(lambda: server.listener.buffered_bytes >= 690_000)
        second.writer.write(line * 7000)
        assert (await second.replies(b".\r\n"))[0].startswith("451 4.3.1")
        assert server.listener.buffered_bytes < 1_100_000
        refused = await second.replies(b"MAIL FROM:<a@b.example> SIZE=400000\r\nRCPT TO:<c@d.example>\r\nDATA\r\n", 3)
        assert refused[-1].startswith("451 4.3.1")
        refused = await second.replies(
            b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 500000 LAST\r\n" + line * 5000, 3
        )
        assert refused[-1].startswith("451 4.3.1")
        assert (await first.replies(b".\r\n"))[0].startswith("250 2.0.0")
        assert server.listener.buffered_bytes == 0


async def test_pipelining_while_the_backend_works_is_bounded(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.backend.gate = asyncio.Event()
        client = await server.in_data()
        client.writer.write(BODY + b".\r\n")
        await server.backend.asked.wait()
        noops = (b"NOOP " + b"x" * 400 + b"\r\n") * 100
        client.writer.write(noops * 10)
        with contextlib.suppress(TimeoutError):
            for _ in range(490):
                client.writer.write(noops)
                await asyncio.wait_for(client.writer.drain(), 0.1)
        assert server.listener.buffered_bytes < 1_000_000
        server.backend.gate.set()
        assert (await client.reply()).startswith("250 2.0.0 Ok: queued")
        assert [await client.reply() for _ in range(1000)] == ["250 2.0.0 Ok"] * 1000


@pytest.mark.parametrize(
    ("wrong", "reply"),
    [
        (InputError("no From", mend="add one"), "550 5.6.0 no From (add one)"),
        (RefusedMessage(Reply.of(550, "5.7.1", "Not yours")), "550 5.7.1 Not yours"),
        (BusyError("The queue is full"), "451 4.3.1 The queue is full"),
        (RuntimeError("secret detail"), "451 4.3.0 Something went wrong here; try again soon"),
    ],
)
async def test_what_the_backend_raises(tmp_path: Path, wrong: Exception, reply: str) -> None:
    async with running(tmp_path) as server:
        client = await server.in_data()
        server.backend.wrong = wrong
        assert await client.replies(BODY + b".\r\n") == [reply]
        again = await client.replies(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 2 LAST\r\n\r\n", 3)
        assert again[-1] == "250 2.0.0 Ok: queued as q1"


async def test_what_the_backend_refuses(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.logged_in()
        assert (await client.replies(b"MAIL FROM:<refused@b.example>\r\n"))[0] == "553 5.7.1 Not your domain"
        server.backend.full = Reply.of(451, "4.3.1", "The disk is full")
        assert (await client.replies(b"MAIL FROM:<a@b.example>\r\n"))[0] == "451 4.3.1 The disk is full"
        server.backend.full = None
        await client.replies(b"MAIL FROM:<a@b.example>\r\n")
        assert (await client.replies(b"RCPT TO:<refused@d.example>\r\n"))[0] == "550 5.1.1 Nobody"


async def test_250_comes_only_after_the_backend_has_the_message(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.backend.gate = asyncio.Event()
        client = await server.in_data()
        client.writer.write(BODY + b".\r\nNOOP\r\n")
        await server.backend.asked.wait()
        await asyncio.sleep(0.05)
        assert not client.reader._buffer  # type: ignore[attr-defined] # nothing was said yet
        server.backend.gate.set()
        assert [await client.reply(), await client.reply()] == ["250 2.0.0 Ok: queued as q1", "250 2.0.0 Ok"]


async def test_a_client_that_leaves_before_the_reply(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.backend.gate = asyncio.Event()
        client = await server.in_data()
        client.writer.write(BODY + b".\r\n")
        await server.backend.asked.wait()
        client.reset()
        await until(lambda: not server.listener._connections)
        server.backend.gate.set()
        await until(lambda: server.backend.messages)
        assert server.listener.buffered_bytes == 0


async def test_a_client_that_leaves_in_the_middle_of_a_message(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.in_data()
        client.writer.write(BODY)
        await client.writer.drain()
        client.close()
        await until(lambda: not server.listener._connections)
        assert not server.backend.messages
        assert server.listener.buffered_bytes == 0


async def test_a_whole_session_piped_in_with_a_half_close(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.connect()
        client.writer.write(b"EHLO c\r\n" + LOGIN + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
        client.writer.write(BODY + b".\r\nQUIT\r\n")
        client.writer.write_eof()
        said = await client.rest()
        assert [line[:3] for line in said] == ["220", "250", "235", "250", "250", "354", "250", "221"]


async def test_a_refusal_in_the_middle_of_a_message_is_not_lost_to_a_reset(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.in_data()
        client.writer.write(b"bare\nline end\r\n" + b"and much more\r\n" * 20_000)
        assert (await client.reply()).startswith("554 5.6.0")
        assert await client.rest() == []
        client.close()
        assert not server.backend.messages


async def test_wrong_passwords_are_slowed_down_and_end_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.connect()
        wrong = b"AUTH PLAIN AGFubgBndWVzcw==\r\n"
        said = await client.replies(b"EHLO c\r\n" + wrong * 3 + LOGIN, 5)
        assert [line[:9] for line in said[2:]] == ["535 5.7.8", "535 5.7.8", "421 4.7.0"]
        assert await client.rest() == []
        assert len(server.clock.slept_s) == 3


async def test_a_login_that_cannot_be_checked_is_no_wrong_password(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.connect()
        said = await client.replies(b"EHLO c\r\n" + b"AUTH PLAIN AGFubgBjcmFzaA==\r\n" * 4 + LOGIN, 7)
        assert [line[:9] for line in said[2:]] == ["454 4.7.0"] * 4 + ["235 2.7.0"]


async def test_stopping_lets_a_message_finish(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        idle, sending = await server.logged_in(), await server.in_data()
        sending.writer.write(BODY)
        await until(lambda: server.listener.buffered_bytes > 0)
        stopping = asyncio.create_task(server.listener.stop(10))
        assert await idle.rest() == ["421 4.3.2 The server is stopping; try again soon"]
        idle.close()
        sending.writer.write(b".\r\n")
        said = await sending.rest()
        assert [line[:9] for line in said] == ["250 2.0.0", "421 4.3.2"]
        sending.close()
        await stopping
        assert len(server.backend.messages) == 1
        with pytest.raises(ConnectionError):
            await server.connect()


async def test_stopping_cuts_off_who_never_finishes(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await server.in_data()
        client.writer.write(BODY)
        await server.listener.stop(0.1)
        assert [line[:9] for line in await client.rest()] == ["421 4.3.2"]
        assert not server.backend.messages


async def test_stopping_waits_for_the_backend(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.backend.gate = asyncio.Event()
        client = await server.in_data()
        client.writer.write(BODY + b".\r\n")
        await server.backend.asked.wait()
        stopping = asyncio.create_task(server.listener.stop(0.05))
        await asyncio.sleep(0.2)
        assert not stopping.done()
        server.backend.gate.set()
        await stopping
        assert len(server.backend.messages) == 1


async def test_settings_that_cannot_work() -> None:
    for settings in (
        Submission(tls_listen="127.0.0.1:0"),
        Submission(max_message_bytes=3_000_000, max_buffered_mb=1),
    ):
        with pytest.raises(ConfigError):
            SubmissionListener(RecordingBackend(), settings, "mx.example", None, SystemClock())


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        settings = Submission(listen=f"127.0.0.1:{server.port}")
        second = SubmissionListener(RecordingBackend(), settings, "mx.example", None, SystemClock())
        with pytest.raises(ConfigError, match=r"submission\.listen: cannot listen on"):
            await second.start()


async def test_nothing_to_listen_on() -> None:
    listener = SubmissionListener(RecordingBackend(), Submission(listen=""), "mx.example", None, SystemClock())
    assert await listener.start() == ("", 0)
    await listener.stop(0)
