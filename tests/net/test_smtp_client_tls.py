"""STARTTLS against aiosmtpd and against remotes that break it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trustme
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP

from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.net.smtp_peer import ClientOptions, ConnectFailed, Peer, Timeouts, TlsWish
from mailfleet.smtp.transaction import Recipient, Transaction
from tests.net.scripted_peer import Conversation, scripted

OPTIONS = ClientOptions("me.test", Timeouts(command_s=10), loopback_only=True)
TRANSACTION = Transaction("me@me.test", (Recipient("a@b.test"), Recipient("c@d.test")), b"Subject: x\r\n\r\nhello\r\n")


class Keep(Sink):
    """Remembers every message with its envelope."""

    def __init__(self) -> None:
        self.kept: list[tuple[list[str], bytes, bool]] = []

    async def handle_DATA(self, server: SMTP, session: object, envelope: object) -> str:
        secured = getattr(session, "ssl", None) is not None
        self.kept.append((list(envelope.rcpt_tos), bytes(envelope.content), secured))  # type: ignore[attr-defined]
        return "250 2.0.0 kept"


@contextlib.asynccontextmanager
async def aiosmtpd(keep: Keep, *, tls: bool) -> AsyncIterator[Peer]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("mx.test").configure_cert(context)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(keep, tls_context=context, loop=loop), "127.0.0.1", 0)
    try:
        yield Peer("mx.test", *server.sockets[0].getsockname())
    finally:
        server.close()


@pytest.mark.parametrize("wish", ["opportunistic", "required", "none"])
async def test_tls_when_offered_and_wanted(wish: TlsWish) -> None:
    keep = Keep()
    async with aiosmtpd(keep, tls=True) as peer:
        connection = await SmtpConnection.open(peer, replace(OPTIONS, tls=wish))
        for _ in range(2):
            result = await connection.send(TRANSACTION)
            assert all(one.delivered for one in result.recipients)
        assert connection.tls_info.startswith("TLSv1." if wish != "none" else "")
        assert ("> STARTTLS" in connection.session_transcript) == (wish != "none")
        await connection.quit()
    assert keep.kept == [(["a@b.test", "c@d.test"], TRANSACTION.message, wish != "none")] * 2


async def test_a_long_message_under_tls() -> None:
    keep = Keep()
    message = b"Subject: x\r\n\r\n" + (b"." + b"y" * 70 + b"\r\n") * 40_000
    async with aiosmtpd(keep, tls=True) as peer:
        connection = await SmtpConnection.open(peer, OPTIONS)
        result = await connection.send(TRANSACTION._replace(message=message))
        assert all(one.delivered for one in result.recipients)
        await connection.quit()
    assert keep.kept[0][1] == message


async def test_without_starttls_on_offer() -> None:
    keep = Keep()
    async with aiosmtpd(keep, tls=False) as peer:
        connection = await SmtpConnection.open(peer, OPTIONS)
        assert connection.tls_info == ""
        assert all(one.delivered for one in (await connection.send(TRANSACTION)).recipients)
        await connection.quit()
        with pytest.raises(ConnectFailed) as failed:
            await SmtpConnection.open(peer, replace(OPTIONS, tls="required"))
        assert (failed.value.phase, failed.value.failure) == ("tls", "tls-required")


@pytest.mark.parametrize("instead", [b"not a handshake at all\r\n" * 5, b"", None])
async def test_a_handshake_that_fails_leaves_clear_text_as_a_second_try(instead: bytes | None) -> None:
    async def script(remote: Conversation) -> None:
        remote.say(b"220 hi\r\n")
        await remote.expect("EHLO")
        remote.say(b"250-mx.test\r\n250 STARTTLS\r\n")
        if (await remote.reader.readline()) != b"STARTTLS\r\n":
            return
        remote.say(b"220 go\r\n")
        await remote.reader.read(10)
        if instead is None:
            await asyncio.sleep(3600)
        remote.say(instead or b"")

    async with scripted(script) as server:
        peer = Peer("mx.test", server.host, server.port)
        hasty = replace(OPTIONS, timeouts=Timeouts(command_s=1 if instead is None else 10))
        with pytest.raises(ConnectFailed) as failed:
            await SmtpConnection.open(peer, hasty)
        assert (failed.value.phase, failed.value.failure) == ("tls", "tls-handshake")
        assert "220 go" in failed.value.transcript
        connection = await SmtpConnection.open(peer, replace(OPTIONS, tls="none"))
        assert connection.usable
        connection.abort()


async def test_clear_text_slipped_in_before_the_handshake_is_refused() -> None:
    async def script(remote: Conversation) -> None:
        remote.say(b"220 hi\r\n")
        await remote.expect("EHLO")
        remote.say(b"250-mx.test\r\n250 STARTTLS\r\n")
        await remote.expect("STARTTLS")
        remote.say(b"220 go\r\n250-evil\r\n250 CHUNKING\r\n")
        await remote.wait_for_end()

    async with scripted(script) as server:
        with pytest.raises(ConnectFailed) as failed:
            await SmtpConnection.open(Peer("mx.test", server.host, server.port), OPTIONS)
        assert (failed.value.phase, failed.value.failure) == ("tls", "tls-handshake")
