"""The SMTP client against Postfix, Exim and OpenSMTPD: every extension that the client knows, on servers that have it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.net.smtp_peer import ClientOptions, ConnectFailed, Peer
from mailfleet.smtp.transaction import Recipient, Transaction, TransactionResult
from tests.peers.servers import MAX_MESSAGE_BYTES, MailServer

CLEAR = ClientOptions("me.test", tls="none", loopback_only=True)
TLS = replace(CLEAR, tls="required")
MESSAGE = b"From: me@me.test\r\nTo: ann@shop.test\r\nSubject: hello\r\n\r\nhello\r\n"


def to(*addresses: str, message: bytes = MESSAGE) -> Transaction:
    return Transaction("me@me.test", tuple(Recipient(address) for address in addresses), message)


def body(stored: bytes) -> bytes:
    """Of a stored message, with CRLF line ends again."""
    return stored.partition(b"\n\n")[2].replace(b"\n", b"\r\n")


async def connect(server: MailServer, options: ClientOptions) -> SmtpConnection:
    return await SmtpConnection.open(Peer("localhost", server.host, server.port), options)


async def stored(server: MailServer, count: int) -> list[bytes]:
    """Each test waits for all that it sent: what comes later would be found by the next one."""
    return await asyncio.to_thread(server.wait_for, count)


@pytest.fixture(params=["postfix", "exim", "opensmtpd"])
def server(request: pytest.FixtureRequest) -> MailServer:
    found: MailServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["postfix", "exim"])
def modern(request: pytest.FixtureRequest) -> MailServer:
    """Those with PIPELINING, CHUNKING, SMTPUTF8 and a STARTTLS that works."""
    found: MailServer = request.getfixturevalue(request.param)
    return found


async def test_many_messages_over_one_connection(server: MailServer) -> None:
    connection = await connect(server, CLEAR)
    for number in range(20):
        result = await connection.send(to("ann@shop.test", message=MESSAGE + b"%d\r\n" % number))
        assert result.recipients[0].delivered, result.transcript
    await connection.quit()
    assert sorted(map(body, await stored(server, 20))) == sorted(b"hello\r\n%d\r\n" % number for number in range(20))


async def test_commands_go_out_behind_a_message(modern: MailServer) -> None:
    """RFC 2920 3.1 allows it; refused recipients and refused messages in between do not mix two transactions up."""
    connection = await connect(modern, replace(CLEAR, chunking=False))
    flights: list[asyncio.Future[TransactionResult]] = []
    results: list[TransactionResult] = []
    for number in range(12):
        if len(flights) == 2:
            results.append(await flights.pop(0))
        assert connection.can_follow or connection.usable
        address = "unknown1@shop.test" if number % 4 == 3 else "ann@shop.test"
        flights.append(connection.submit(to(address, message=MESSAGE + b"%d\r\n" % number)))
    results += [await one for one in flights]
    phases = [(one.recipients[0].phase, one.recipients[0].reply and one.recipients[0].reply.code) for one in results]
    assert phases == [("rcpt", 550) if number % 4 == 3 else ("message", 250) for number in range(12)]
    assert not any(one.inconclusive for one in results)
    await connection.quit()
    assert len(await stored(modern, 9)) == 9


@pytest.mark.parametrize("chunking", [True, False])
async def test_refused_and_accepted_recipients_in_turn(server: MailServer, chunking: bool) -> None:
    connection = await connect(server, replace(CLEAR, chunking=chunking))
    for _ in range(3):
        mixed = await connection.send(to("unknown1@shop.test", "ann@shop.test", "unknown2@shop.test", "bob@shop.test"))
        phases = [(one.phase, one.reply and one.reply.code) for one in mixed.recipients]
        assert phases == [("rcpt", 550), ("message", 250), ("rcpt", 550), ("message", 250)], mixed.transcript
        nobody = await connection.send(to("unknown1@shop.test"))
        assert [one.phase for one in nobody.recipients] == ["rcpt"], nobody.transcript
        assert connection.usable
    await connection.quit()
    assert len(await stored(server, 6)) == 6


@pytest.mark.parametrize("chunking", [True, False])
async def test_lines_with_dots_arrive_as_they_were(server: MailServer, chunking: bool) -> None:
    text = b".\r\n..\r\n.x\r\n\r\n.\r\nend.\r\n"
    connection = await connect(server, replace(CLEAR, chunking=chunking))
    result = await connection.send(to("ann@shop.test", message=b"Subject: dots\r\n\r\n" + text))
    assert ("BDAT" in result.transcript) == (chunking and connection.extensions.chunking)
    assert result.recipients[0].delivered, result.transcript
    await connection.quit()
    assert body((await stored(server, 1))[0]) == text


async def test_8bitmime(server: MailServer) -> None:
    header = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    text = "Grüße, שלום\r\n".encode()
    connection = await connect(server, CLEAR)
    assert connection.extensions.eightbitmime
    result = await connection.send(to("ann@shop.test", message=header + text)._replace(eightbit=True))
    assert "BODY=8BITMIME" in result.transcript
    assert result.recipients[0].delivered, result.transcript
    await connection.quit()
    assert body((await stored(server, 1))[0]) == text


async def test_size_is_told_and_a_message_too_large_is_not_even_tried(server: MailServer) -> None:
    connection = await connect(server, CLEAR)
    assert connection.extensions.max_message_bytes == MAX_MESSAGE_BYTES
    result = await connection.send(to("ann@shop.test", message=MESSAGE + b"x" * MAX_MESSAGE_BYTES))
    assert result.recipients[0].failure == "too-large"
    fits = await connection.send(to("ann@shop.test", message=MESSAGE + (b"x" * 70 + b"\r\n") * 60_000))
    assert fits.recipients[0].delivered, fits.transcript
    assert re.search(r"SIZE=4320\d\d\d", fits.transcript)
    await connection.quit()
    assert len(body((await stored(server, 1))[0])) == 4_320_007


async def test_smtputf8(modern: MailServer) -> None:
    connection = await connect(modern, CLEAR)
    assert connection.extensions.smtputf8
    message = "From: <jörg@münchen.test>\r\nSubject: Grüße\r\n\r\nhello\r\n".encode()
    transaction = Transaction("jörg@me.test", (Recipient("bücher@shop.test"),), message, smtputf8=True, eightbit=True)
    result = await connection.send(transaction)
    assert result.recipients[0].delivered, result.transcript
    assert "<jörg@me.test>" in result.transcript
    await connection.quit()
    assert "bücher@shop.test".encode() in (await stored(modern, 1))[0]


async def test_a_server_without_smtputf8_is_not_given_it(opensmtpd: MailServer) -> None:
    connection = await connect(opensmtpd, CLEAR)
    result = await connection.send(to("bücher@shop.test")._replace(smtputf8=True))
    assert result.recipients[0].failure == "needs-smtputf8"
    await connection.quit()


async def test_dsn_parameters_come_back_in_the_notification(modern: MailServer) -> None:
    connection = await connect(modern, CLEAR)
    assert connection.extensions.dsn
    recipient = Recipient("ann@shop.test", frozenset({"SUCCESS", "FAILURE"}), "rfc822;ann+tag@list.test")
    transaction = Transaction("me@me.test", (recipient,), MESSAGE, envid="QQ 314159=+", ret="HDRS")
    result = await connection.send(transaction)
    assert result.recipients[0].delivered, result.transcript
    await connection.quit()
    found = await stored(modern, 2)  # the message, and the DSN to its reverse-path
    report = next(message for message in found if b"message/delivery-status" in message)
    # Postfix decodes xtext where it reports it, Exim does not
    assert b"rfc822;ann+tag@list.test" in report or b"rfc822;ann+2Btag@list.test" in report
    assert b"QQ 314159=+" in report or b"QQ+20314159+3D+2B" in report


async def test_dsn_parameters_are_taken(opensmtpd: MailServer) -> None:
    connection = await connect(opensmtpd, CLEAR)
    recipient = Recipient("ann@shop.test", frozenset({"NEVER"}), "rfc822;ann@list.test")
    result = await connection.send(Transaction("me@me.test", (recipient,), MESSAGE, envid="QQ314159", ret="FULL"))
    assert result.recipients[0].delivered, result.transcript
    assert "NOTIFY=NEVER ORCPT=rfc822;ann@list.test" in result.transcript
    await connection.quit()
    await stored(opensmtpd, 1)


async def test_starttls(modern: MailServer) -> None:
    connection = await connect(modern, TLS)
    assert connection.tls_info.startswith("TLSv1.3 ")
    for _ in range(3):
        result = await connection.send(to("ann@shop.test"))
        assert result.recipients[0].delivered, result.transcript
    await connection.quit()
    assert all(re.search(rb"with ESMTPS", message, re.IGNORECASE) for message in await stored(modern, 3))


async def test_a_long_message_under_tls(modern: MailServer) -> None:
    connection = await connect(modern, TLS)
    text = (b"y" * 70 + b"\r\n") * 40_000
    result = await connection.send(to("ann@shop.test", message=b"Subject: x\r\n\r\n" + text))
    assert result.recipients[0].delivered, result.transcript
    await connection.quit()
    assert body((await stored(modern, 1))[0]) == text


async def test_where_the_handshake_fails_clear_text_delivers(opensmtpd: MailServer) -> None:
    with pytest.raises(ConnectFailed) as failed:
        await connect(opensmtpd, replace(CLEAR, tls="opportunistic"))
    assert (failed.value.phase, failed.value.failure) == ("tls", "tls-handshake")
    connection = await connect(opensmtpd, CLEAR)
    assert (await connection.send(to("ann@shop.test"))).recipients[0].delivered
    await connection.quit()
    await stored(opensmtpd, 1)


async def test_pipelining_is_used_where_it_is_offered(server: MailServer) -> None:
    connection = await connect(server, CLEAR)
    assert connection.extensions.pipelining == (server.name != "OpenSMTPD")
    transcript = (await connection.send(to("ann@shop.test"))).transcript
    directions = re.findall(r"^\+\d+ ([<>])", transcript, re.MULTILINE)
    assert directions[:3] == ([">", ">", ">"] if connection.extensions.pipelining else [">", "<", ">"])
    await connection.quit()
    await stored(server, 1)


async def test_many_connections_at_once(server: MailServer) -> None:
    async def deliver(number: int) -> None:
        connection = await connect(server, CLEAR)
        result = await connection.send(to(f"user{number}@shop.test"))
        assert result.recipients[0].delivered, result.transcript
        await connection.quit()

    await asyncio.gather(*(deliver(number) for number in range(10)))
    assert len(await stored(server, 10)) == 10
