"""Connections to mail hosts that behave and that do not."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.net.smtp_peer import ClientOptions, ConnectFailed, Peer, Timeouts
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.transaction import Recipient, Transaction, TransactionResult
from tests.net.scripted_peer import EHLO, Conversation, Script, ScriptedPeer, scripted

LONG = Timeouts(connect_s=20, greeting_s=20, command_s=20, data_s=20, final_s=20, quit_s=5)
OPTIONS = ClientOptions("me.test", LONG, tls="none", loopback_only=True)
TRANSACTION = Transaction("me@me.test", (Recipient("a@b.test"),), b"Subject: x\r\n\r\n.hello\r\n")


def impatient(**timeouts: float) -> ClientOptions:
    return replace(OPTIONS, timeouts=replace(LONG, **timeouts))


def peer_of(server: ScriptedPeer) -> Peer:
    return Peer("mx.test", server.host, server.port)


async def attempt(script: Script, **awaiting: float) -> TransactionResult:
    """Open, send one transaction, quit. ``awaiting``: how long the replies of some phases are waited for, and of no other."""
    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), OPTIONS)
        connection._awaiting |= awaiting
        result = await connection.send(TRANSACTION)
        await connection.quit()
        return result


async def failed_open(script: Script, options: ClientOptions = OPTIONS) -> ConnectFailed:
    async with scripted(script) as server:
        with pytest.raises(ConnectFailed) as failed:
            await SmtpConnection.open(peer_of(server), options)
        return failed.value


def only(result: TransactionResult) -> tuple[str, int | str]:
    (one,) = result.recipients
    return one.phase, one.reply.code if one.reply else one.failure


# A remote that behaves


async def test_messages_follow_each_other_on_one_connection() -> None:
    heard: list[bytes] = []

    async def script(remote: Conversation) -> None:
        await remote.open()
        for number in range(3):
            await remote.envelope()
            heard.append(await remote.message())
            remote.say(b"250 2.0.0 queued as %d\r\n" % number)
        await remote.expect("QUIT")
        remote.say(b"221 bye\r\n")

    accepted: list[tuple[int, Reply]] = []
    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), OPTIONS)
        assert connection.extensions.pipelining
        assert connection.session_transcript.splitlines()[0].endswith("< 220 mx.test ESMTP")
        for number in range(3):
            assert connection.usable
            result = await connection.send(TRANSACTION, lambda index, reply: accepted.append((index, reply)))
            assert str(result.recipients[0].reply) == f"250 2.0.0 queued as {number}"
        await connection.quit()
        assert not connection.usable
    assert heard == [b"Subject: x\r\n\r\n..hello\r\n.\r\n"] * 3
    assert [index for index, _ in accepted] == [0, 0, 0]


async def test_the_journal_hears_of_accepted_recipients_only_and_first() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.expect("MAIL", "RCPT", "RCPT", "DATA")
        remote.say(b"250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n")
        await remote.message()
        remote.say(b"250 done\r\n")
        await remote.wait_for_end()

    order: list[str] = []
    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), OPTIONS)
        two = TRANSACTION._replace(recipients=(Recipient("x@b.test"), Recipient("y@b.test")))
        sending = asyncio.create_task(connection.send(two, lambda index, _: order.append(f"accepted {index}")))
        sending.add_done_callback(lambda _: order.append("result"))
        await sending
        await asyncio.sleep(0)
        connection.abort()
    assert order == ["accepted 1", "result"]


async def test_what_the_journal_raises_comes_out_of_send() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.envelope()
        await remote.message()
        remote.say(b"250 done\r\n")
        await remote.wait_for_end()

    def full_disk(_index: int, _reply: Reply) -> None:
        raise OSError("no space left")

    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), OPTIONS)
        with pytest.raises(OSError, match="no space"):
            await connection.send(TRANSACTION, full_disk)
        connection.abort()


async def test_source_address_and_ehlo_name_are_ours_to_choose() -> None:
    said: list[str] = []

    async def script(remote: Conversation) -> None:
        remote.say(b"220 hi\r\n")
        said.extend(await remote.expect("EHLO"))
        remote.say(EHLO)
        await remote.wait_for_end()

    async with scripted(script) as server:
        options = replace(OPTIONS, source_ipv4="127.0.0.9", source_ipv6="::2", ehlo_name="out-9.me.test")
        connection = await SmtpConnection.open(peer_of(server), options)
        assert server.conversations[0].peer_ip == "127.0.0.9"
        connection.abort()
    assert said == ["EHLO out-9.me.test"]


async def test_ipv6() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.wait_for_end()

    async with scripted(script, "::1") as server:
        connection = await SmtpConnection.open(peer_of(server), OPTIONS)
        assert connection.usable
        connection.abort()
        assert server.conversations[0].peer_ip == "::1"


async def test_a_long_message_arrives_whole() -> None:
    line = b".x" * 30 + b"\r\n"
    body = b"Subject: long\r\n\r\n" + line * 100_000
    heard: list[bytes] = []

    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.envelope()
        rest = len(body) + 100_000 + 3
        while rest > 0:
            heard.append(await remote.reader.read(100_000))
            rest -= len(heard[-1])
        remote.say(b"250 done\r\n")
        await remote.wait_for_end()

    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), OPTIONS)
        assert only(await connection.send(TRANSACTION._replace(message=body))) == ("message", 250)
        connection.abort()
    assert b"".join(heard) == body.replace(b"\r\n.", b"\r\n..") + b".\r\n"


# A remote that does not


async def test_it_closes_after_mail() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.expect("MAIL")
        remote.drop()

    result = await attempt(script)
    assert only(result) == ("mail", "connection-lost")
    assert result.inconclusive


async def test_it_says_421_after_mail() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.expect("MAIL")
        remote.say(b"421 4.7.0 slow down\r\n")
        await remote.wait_for_end()

    result = await attempt(script)
    assert only(result) == ("mail", 421)
    assert not result.inconclusive


async def test_it_drops_the_connection_in_the_middle_of_the_message() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.envelope()
        await remote.reader.readexactly(5)
        remote.drop()

    assert only(await attempt(script)) == ("message", "connection-lost")


async def test_it_says_354_though_every_recipient_was_refused() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.envelope(b"250 ok\r\n550 no\r\n354 go\r\n")
        await remote.expect(".")
        remote.say(b"554 no valid recipients\r\n")
        await remote.expect("QUIT")
        remote.say(b"221 bye\r\n")

    assert only(await attempt(script)) == ("rcpt", 550)


async def test_it_is_silent_at_the_greeting() -> None:
    failed = await failed_open(Conversation.wait_for_end, impatient(greeting_s=0.1))
    assert (failed.phase, failed.failure) == ("greeting", "reply-timeout")
    assert "0.1 s" in failed.detail


async def test_it_is_silent_after_ehlo() -> None:
    async def script(remote: Conversation) -> None:
        remote.say(b"220 hi\r\n")
        await remote.wait_for_end()

    failed = await failed_open(script, impatient(command_s=0.1))
    assert (failed.phase, failed.failure) == ("ehlo", "reply-timeout")
    assert "EHLO me.test" in failed.transcript


@pytest.mark.parametrize(
    ("replies", "phase"),
    [
        (b"", "mail"),
        (b"250 ok\r\n", "rcpt"),
        (b"250 ok\r\n250 ok\r\n", "data"),
        (b"250 ok\r\n250 ok\r\n354 go\r\n", "message"),
    ],
)
async def test_it_is_silent_in_a_transaction(replies: bytes, phase: str) -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.envelope(replies)
        await remote.wait_for_end()

    result = await attempt(script, **{phase: 0.1})
    assert only(result) == (phase, "reply-timeout")
    assert "no whole reply within 0.1 s" in result.transcript


async def test_it_drips_one_byte_at_a_time() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.expect("MAIL")
        for _ in range(10_000):
            remote.say(b"2")
            await asyncio.sleep(0.02)

    assert only(await attempt(script, mail=0.2)) == ("mail", "reply-timeout")


async def test_it_never_ends_its_reply() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.expect("MAIL")
        for _ in range(10_000):
            remote.say(b"250-and another thing\r\n")
            await asyncio.sleep(0)

    assert only(await attempt(script)) == ("mail", "protocol")


async def test_it_talks_another_protocol() -> None:
    async def script(remote: Conversation) -> None:
        remote.say(b"SSH-2.0-OpenSSH_9.2\r\n")
        await remote.wait_for_end()

    failed = await failed_open(script)
    assert (failed.phase, failed.failure) == ("greeting", "protocol")
    assert "SSH-2.0" in failed.detail


async def test_it_stops_reading_a_long_message() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.envelope()
        remote.writer.transport.pause_reading()  # type: ignore[attr-defined]  # the streams' transport is a full one
        await asyncio.sleep(3600)

    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), impatient(data_s=0.2))
        connection._awaiting |= {"data": LONG.data_s}  # it is asked for in time
        result = await connection.send(TRANSACTION._replace(message=b"x" * 40_000_000))
        assert only(result) == ("message", "reply-timeout")
        assert "took nothing" in result.recipients[0].detail
        assert not connection.usable


async def test_it_answers_before_it_has_the_message() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.envelope()
        await remote.reader.read(1000)
        remote.say(b"552 5.3.4 too much\r\n")
        await asyncio.sleep(3600)

    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), OPTIONS)
        result = await connection.send(TRANSACTION._replace(message=b"x" * 40_000_000))
        assert only(result) == ("message", 552)
        assert not connection.usable


async def test_it_hangs_up_between_messages() -> None:
    hang_up = asyncio.Event()

    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.envelope()
        await remote.message()
        remote.say(b"250 done\r\n")
        await hang_up.wait()
        remote.say(b"421 idle\r\n")

    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), OPTIONS)
        await connection.send(TRANSACTION)
        hang_up.set()
        while connection.usable:  # noqa: ASYNC110  it is another's flag
            await asyncio.sleep(0.01)
        result = await connection.send(TRANSACTION)
        assert only(result) == ("mail", "connection-lost")
        assert result.inconclusive
        await connection.quit()


async def test_quit_does_not_wait_for_ever() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await asyncio.sleep(3600)

    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), impatient(quit_s=0.1))
        await connection.quit()
        assert not connection.usable


async def test_cancelling_drops_the_connection() -> None:
    async def script(remote: Conversation) -> None:
        await remote.open()
        await remote.wait_for_end()

    async with scripted(script) as server:
        connection = await SmtpConnection.open(peer_of(server), OPTIONS)
        sending = asyncio.create_task(connection.send(TRANSACTION))
        await asyncio.sleep(0.05)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not connection.usable


# Connecting


async def test_nobody_listens() -> None:
    with socket.socket() as probe:  # it keeps the port, so that nobody else comes to listen there
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectFailed) as failed:
            await SmtpConnection.open(Peer("mx.test", *probe.getsockname()), OPTIONS)
    assert (failed.value.phase, failed.value.failure) == ("connect", "connection-refused")


async def test_connecting_takes_too_long() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)  # a full queue: further connects get no answer
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        with pytest.raises(ConnectFailed) as failed:
            await SmtpConnection.open(Peer("mx.test", *deaf.getsockname()), impatient(connect_s=0.3))
        for filler in fillers:
            filler.close()
    assert (failed.value.phase, failed.value.failure) == ("connect", "connection-timeout")


async def test_a_source_address_that_is_not_ours() -> None:
    async with scripted(Conversation.wait_for_end) as server:
        with pytest.raises(ConnectFailed, match=r"192\.0\.2\.1") as failed:
            await SmtpConnection.open(peer_of(server), replace(OPTIONS, source_ipv4="192.0.2.1"))
    assert failed.value.failure == "unreachable"


async def test_loopback_only_means_no_packet_leaves() -> None:
    with pytest.raises(ConnectFailed, match="limited to loopback") as failed:
        await SmtpConnection.open(Peer("mx.test", "192.0.2.25", 25), OPTIONS)
    assert (failed.value.phase, failed.value.failure) == ("connect", "unreachable")


async def test_it_refuses_at_the_greeting_and_hears_quit() -> None:
    heard: list[str] = []

    async def script(remote: Conversation) -> None:
        remote.say(b"554 5.7.1 your address is listed\r\n")
        heard.extend(await remote.expect("QUIT"))

    async with scripted(script) as server:
        with pytest.raises(ConnectFailed) as failed:
            await SmtpConnection.open(peer_of(server), OPTIONS)
        await server.ended.wait()
    assert heard == ["QUIT"]
    assert failed.value.reply == Reply(554, ("5.7.1 your address is listed",))
    assert (failed.value.phase, failed.value.failure) == ("greeting", "")
