"""Mail programs that people use hand mail to a running listener: swaks, msmtp, s-nail, smtplib, aiosmtplib."""

from __future__ import annotations

import asyncio
import os
import shutil
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import TypeVar

import aiosmtplib
import pytest
import uvloop

from mailfleet.mail.repair import ReceivedInfo, repair
from tests.listen.submission_peer import LOGIN, Running, running

T = TypeVar("T")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """A listener that asks for TLS before a login, as in production."""
    async with running(tmp_path, auth_without_tls_on_loopback=False) as started:
        yield started


async def run_client(tmp_path: Path, *command: str, text: bytes = b"") -> str:
    """Run a mail program and return what it printed; a failure of it is a failure of the test."""
    assert shutil.which(command[0]), f"{command[0]} is missing: run scripts/install-submission-clients"
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MAILRC": "/dev/null"}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=tmp_path,
    )
    output, _ = await asyncio.wait_for(process.communicate(text), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


def letter(subject: str = "Hello", body: str = "One line.\n.A dot.\n..Two.\n") -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = "Ann <ann@shop.example>"
    message["To"] = "bob@example.org"
    message["Subject"] = subject
    message.set_content(body)
    return message


SWAKS = ["swaks", "--from", "ann@shop.example", "--au", "ann", "--ap", "secret", "--helo", "client.example"]


@pytest.mark.parametrize(
    "how",
    [
        ["--tls", "--auth", "PLAIN"],
        ["--tls", "--auth", "LOGIN"],
        ["--tls", "--auth", "PLAIN", "--pipeline", "--to", "carl@example.org,dora@example.org"],
        ["--tlsc", "--auth", "PLAIN"],
        ["--tlsc", "--auth", "LOGIN", "--pipeline"],
    ],
    ids=" ".join,
)
async def test_swaks(server: Running, tmp_path: Path, how: list[str]) -> None:
    port = server.tls_port if "--tlsc" in how else server.port
    to = [] if "--to" in how else ["--to", "bob@example.org"]
    output = await run_client(
        tmp_path, *SWAKS, *to, "--server", f"127.0.0.1:{port}", *how, "--body", "first line\n.dotted\n"
    )
    assert "250 2.0.0 Ok: queued as q1" in output
    (message,) = server.backend.messages
    assert message.protocol == "ESMTPSA"
    assert message.tls.startswith("TLSv1.3 ")
    assert message.ehlo_name == "client.example"
    assert message.reverse_path == "ann@shop.example"
    assert [r.address for r in message.recipients] == (to[1:] or ["carl@example.org", "dora@example.org"])
    assert b"\r\nfirst line\r\n.dotted\r\n" in message.data
    mended = repair(
        message.data,
        hostname="mx.example",
        received=ReceivedInfo(message.ehlo_name, message.peer_ip, message.protocol, "q1", message.tls),
        message_id="<1@mx.example>",
        now_ms=0,
    )
    assert str(mended.from_address) == "ann@shop.example"


async def test_swaks_is_told_that_a_login_needs_tls(server: Running, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"530 5\.7\.0 Send STARTTLS first"):
        await run_client(tmp_path, *SWAKS[:3], "--to", "bob@example.org", "--server", f"127.0.0.1:{server.port}")


async def test_swaks_without_tls_where_the_setting_allows_it(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await run_client(
            tmp_path, *SWAKS, "--to", "bob@example.org", "--server", f"127.0.0.1:{server.port}", "--auth", "PLAIN"
        )
        assert server.backend.messages[0].protocol == "ESMTPA"


@pytest.mark.parametrize("mechanism", ["plain", "login"])
@pytest.mark.parametrize("implicit", [False, True])
async def test_msmtp(server: Running, tmp_path: Path, mechanism: str, implicit: bool) -> None:
    await run_client(
        tmp_path,
        "msmtp",
        "--host=localhost",
        f"--port={server.tls_port if implicit else server.port}",
        f"--auth={mechanism}",
        "--user=ann",
        "--passwordeval=echo secret",
        "--tls=on",
        f"--tls-starttls={'off' if implicit else 'on'}",
        f"--tls-trust-file={server.certificate}",
        "--from=ann@shop.example",
        "--dsn-notify=failure,delay",
        "--dsn-return=headers",
        "--",
        "bob@example.org",
        text=letter().as_bytes().replace(b"\r\n", b"\n"),
    )
    (message,) = server.backend.messages
    assert message.ret == "HDRS"
    assert message.recipients[0].notify == frozenset({"FAILURE", "DELAY"})
    assert message.data.endswith(b"One line.\r\n.A dot.\r\n..Two.\r\n")


async def test_s_nail(server: Running, tmp_path: Path) -> None:
    attachment = tmp_path / "prices.bin"
    attachment.write_bytes(bytes(range(256)) * 20)
    await run_client(
        tmp_path,
        "s-nail",
        "-:/",
        "-Sv15-compat",
        "-Sttycharset=utf-8",
        "-Sfrom=ann@shop.example",
        f"-Smta=smtp://ann:secret@localhost:{server.port}",
        "-Ssmtp-config=starttls,auth=plain",
        "-Ssmtp-use-starttls",
        "-Ssmtp-auth=plain",
        "-Stls-verify=strict",
        f"-Stls-ca-file={server.certificate}",
        "-Shostname=client.example",
        "-Ssendwait",
        "-s",
        "Grüße",
        "-a",
        str(attachment),
        "bob@example.org",
        text="Hallo Jürgen\n.\n.x\n".encode(),
    )
    (message,) = server.backend.messages
    assert message.protocol == "ESMTPSA"
    assert b"prices.bin" in message.data
    assert [r.address for r in message.recipients] == ["bob@example.org"]


def plain_session(server: Running) -> smtplib.SMTP:
    client = smtplib.SMTP("localhost", server.port, local_hostname="client.example", timeout=30)
    client.starttls(context=server.client_context())
    client.login("ann", "secret")
    return client


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


async def test_smtplib_with_every_option(server: Running) -> None:
    def send() -> None:
        with plain_session(server) as client:
            offered = ["pipelining", "size", "8bitmime", "smtputf8", "chunking", "dsn", "enhancedstatuscodes", "auth"]
            assert set(client.esmtp_features) == {*offered, "requiretls"}
            assert client.esmtp_features["size"] == "1000000"
            assert client.vrfy("ann")[0] == 252
            body = "Subject: Grüße\r\n\r\nHallo\r\n".encode()
            client.sendmail(
                "jürgen@shop.example",
                ["bob@example.org", "名前@例え.example"],
                body,
                mail_options=["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS", "ENVID=order+2B7", "REQUIRETLS"],
                rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;bob@example.org"],
            )
            client.send_message(letter())
            client.send_message(letter(), from_addr="<>")

    await in_thread(send)
    first, second, third = server.backend.messages
    assert first.data == "Subject: Grüße\r\n\r\nHallo\r\n".encode()
    assert (first.smtputf8, first.ret, first.envid, first.protocol) == (True, "HDRS", "order+7", "UTF8SMTPSA")
    assert first.reverse_path == "jürgen@shop.example"
    assert [r.address for r in first.recipients] == ["bob@example.org", "名前@xn--r8jz45g.example"]
    assert first.recipients[1].notify == frozenset({"SUCCESS", "FAILURE"})
    assert first.recipients[1].orcpt == "rfc822;bob@example.org"
    assert second.data == letter().as_bytes()
    assert third.reverse_path == ""
    assert [one.requiretls for one in (first, second, third)] == [True, False, False]


async def test_smtplib_refusals(server: Running) -> None:
    def send() -> None:
        with plain_session(server) as client:
            with pytest.raises(smtplib.SMTPSenderRefused) as too_large:
                client.sendmail("a@shop.example", "b@example.org", b"x" * 998 + b"\r\n" * 1_000_000)
            assert too_large.value.smtp_code == 552
            with pytest.raises(smtplib.SMTPRecipientsRefused) as nobody:
                client.sendmail("a@shop.example", ["refused@example.org"], b"x\r\n")
            assert nobody.value.recipients["refused@example.org"] == (550, b"5.1.1 Nobody")
            with pytest.raises(smtplib.SMTPSenderRefused) as unknown:
                client.sendmail("a@shop.example", ["b@example.org"], b"x\r\n", mail_options=["BODY=BINARYMIME"])
            assert unknown.value.smtp_code == 555
            with pytest.raises(smtplib.SMTPDataError) as long_line:
                client.sendmail("a@shop.example", ["b@example.org"], b"x" * 999)
            assert (long_line.value.smtp_code, long_line.value.smtp_error[:5]) == (554, b"5.6.0")
        with smtplib.SMTP("localhost", server.port, timeout=30) as client:
            with pytest.raises(smtplib.SMTPNotSupportedError):
                client.login("ann", "secret")
            assert client.docmd("AUTH", "PLAIN AGFubgBzZWNyZXQ=")[0] == 538

    await in_thread(send)
    assert not server.backend.messages


async def test_smtplib_wrong_password_and_implicit_tls(server: Running) -> None:
    def send() -> None:
        with smtplib.SMTP_SSL("localhost", server.tls_port, context=server.client_context(), timeout=30) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError) as wrong:
                client.login("ann", "guess")
            assert wrong.value.smtp_code == 535
        with smtplib.SMTP_SSL("localhost", server.tls_port, context=server.client_context(), timeout=30) as client:
            client.login("ann", "secret")
            client.send_message(letter())

    await in_thread(send)
    assert len(server.clock.slept_s) == 2  # smtplib tries PLAIN, then LOGIN
    assert server.backend.messages[0].protocol == "ESMTPSA"


async def test_bdat_by_hand_under_tls(server: Running) -> None:
    whole = letter(body="x" * 70 + "\n" + "y\n" * 30_000).as_bytes()

    def send() -> None:
        with plain_session(server) as client:
            assert client.mail("ann@shop.example", ["BODY=8BITMIME"])[0] == 250
            assert client.rcpt("bob@example.org")[0] == 250
            for start in range(0, len(whole), 7_001):
                piece = whole[start : start + 7_001]
                client.send(b"BDAT %d\r\n" % len(piece) + piece)
                assert client.getreply()[0] == 250
            assert client.docmd("DATA")[0] == 503
            assert client.docmd("BDAT 0 LAST")[1] == b"2.0.0 Ok: queued as q1"

    await in_thread(send)
    assert server.backend.messages[0].data == whole


async def test_many_messages_on_many_connections_with_aiosmtplib(server: Running) -> None:
    async def send(number: int) -> None:
        client = aiosmtplib.SMTP(
            hostname="localhost",
            port=server.tls_port if number % 2 else server.port,
            use_tls=bool(number % 2),
            start_tls=not number % 2,
            tls_context=server.client_context(),
            username="ann",
            password="secret",
        )
        async with client:
            for turn in range(5):
                await client.send_message(letter(f"{number}-{turn}"))

    await asyncio.gather(*(send(number) for number in range(8)))
    subjects = sorted(message.data.split(b"Subject: ")[1].split(b"\r\n")[0] for message in server.backend.messages)
    assert subjects == sorted(b"%d-%d" % (number, turn) for number in range(8) for turn in range(5))
    assert server.listener.buffered_bytes == 0


async def test_a_large_message_arrives_whole(server: Running) -> None:
    whole = letter(body=".dots and text\n" * 60_000).as_bytes()
    await in_thread(lambda: _send_bytes(server, whole))
    assert server.backend.messages[0].data == whole


def _send_bytes(server: Running, whole: bytes) -> None:
    with plain_session(server) as client:
        client.sendmail("ann@shop.example", ["bob@example.org"], whole)


async def test_clear_text_behind_starttls_is_never_read(server: Running) -> None:
    client = await server.connect()
    said = await client.replies(b"EHLO c.example\r\nSTARTTLS\r\nEHLO injected\r\n", 3)
    assert said[-1].startswith("554 5.5.1")
    assert await client.rest() == []
    client = await server.connect()
    assert (await client.replies(b"EHLO c.example\r\nSTARTTLS\r\n", 3))[-1].startswith("220 2.0.0")
    client.writer.write(b"EHLO injected\r\n" + LOGIN)
    assert await client.reader.read() in (b"", b"\x15\x03\x01\x00\x02\x02\x46")  # nothing, or a TLS alert
    assert not server.backend.messages


async def test_clear_text_on_the_tls_port_gets_nothing(server: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
    writer.write(b"EHLO c.example\r\n")
    assert b"250" not in await reader.read()
    writer.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_tls_is_refused(server: Running) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=context)


def test_the_same_under_uvloop(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, idle_timeout_s=10) as server:

            def send() -> None:
                with plain_session(server) as client:
                    client.send_message(letter())
                with smtplib.SMTP_SSL(
                    "localhost", server.tls_port, context=server.client_context(), timeout=30
                ) as client:
                    client.login("ann", "secret")
                    client.send_message(letter())

            await asyncio.gather(*(asyncio.to_thread(send) for _ in range(6)))
            assert len(server.backend.messages) == 12
            clear = await server.connect()
            clear.writer.write(b"EHLO c\r\n" + LOGIN + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
            clear.writer.write(b"x\r\n.\r\nQUIT\r\n")
            clear.writer.write_eof()
            assert [line[:3] for line in await clear.rest()] == ["220", "250", "235", "250", "250", "354", "250", "221"]
            idle = await server.logged_in()
            stopping = asyncio.create_task(server.listener.stop(10))
            assert (await idle.rest())[0].startswith("421 4.3.2")
            idle.close()
            await stopping

    uvloop.run(scenario())
