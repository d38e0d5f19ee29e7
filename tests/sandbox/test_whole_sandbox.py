"""The sandbox as a whole: many clients at once, kill -9, seeds, signatures, ports, loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiosmtplib
import pytest

import mailfleet
from mailfleet.base.clock import SystemClock
from mailfleet.base.errors import ConfigError
from mailfleet.config.settings import Settings
from mailfleet.mail import dkim
from mailfleet.sandbox import inbox, role
from mailfleet.sandbox.published import publish
from mailfleet.sandbox.report import outcomes, report
from mailfleet.sandbox.server import SandboxServer
from tests.sandbox.conftest import NO_RATES, Running, StartSandbox, letter, sandbox_settings

SHARES = {"*": {"unknown": 0.1, "full-clears": 0.1, "later": 0.05, "ratelimit": 0.05, "drop": 0.05, "spam": 0.05}}

_PROCESS = """
import asyncio, signal, sys
import uvloop
from mailfleet.base.clock import SystemClock
from mailfleet.config.settings import Settings
from mailfleet.sandbox import role

async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await role.run(Settings.model_validate_json(sys.argv[1]), SystemClock(), stop)

uvloop.run(main())
"""


@contextmanager
def process(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """The role in a process of its own, ready when its last port answers."""
    path = os.pathsep.join([str(Path(mailfleet.__file__).parent.parent), *sys.path])
    child = subprocess.Popen(
        [sys.executable, "-c", _PROCESS, settings.model_dump_json()], env=os.environ | {"PYTHONPATH": path}
    )
    try:
        while True:
            try:
                socket.create_connection((address(settings, 5), settings.sandbox.smtp_port), 5).close()
                break
            except ConnectionRefusedError:
                assert child.poll() is None
        yield child
    finally:
        child.kill()
        child.wait()


def address(settings: Settings, number: int) -> str:
    return settings.sandbox.address_base.removesuffix("0") + str(number)


async def deliver(running: Running, number: int, limit: asyncio.Semaphore) -> tuple[str, list[int]]:
    """Try one delivery until it is settled; the codes of all tries, 0 for a broken connection."""
    codes: list[int] = []
    recipient = f"person.{number}@gmail.com"
    while not codes or (codes[-1] < 500 and codes[-1] != 250):
        assert len(codes) < 6
        async with limit:
            client = aiosmtplib.SMTP(
                hostname=running.addresses["gmail"], port=running.port, start_tls=False, timeout=20
            )
            try:
                await client.connect()
                await client.sendmail("b@shop.example", recipient, letter(f"{number}@x"))
                codes.append(250)
            except aiosmtplib.SMTPServerDisconnected:
                codes.append(0)
            except aiosmtplib.SMTPRecipientsRefused as error:
                codes.append(error.recipients[0].code)
            except aiosmtplib.SMTPResponseException as error:
                codes.append(error.code)
            finally:
                client.close()
    return recipient, codes


async def test_many_clients_at_once_and_the_report_says_what_they_saw(start_sandbox: StartSandbox) -> None:
    running = await asyncio.to_thread(start_sandbox, rates=SHARES)
    limit = asyncio.Semaphore(30)
    seen = dict(await asyncio.gather(*(deliver(running, number, limit) for number in range(400))))
    finals = Counter(codes[-1] == 250 for codes in seen.values())
    totals = report(running.data)["totals"]
    assert totals["accepted"] == finals[True]
    assert sum(totals["refused"].values()) == finals[False]
    assert sum(totals["deferred"].values()) == sum(len(codes) - 1 for codes in seen.values())
    assert set(totals["refused"]) == {"unknown-user", "content-spam"}
    assert set(totals["deferred"]) == {"mailbox-full", "try-later", "rate-limited", "connection-dropped"}
    assert (totals["repeats"], totals["bad_signatures"]) == (0, totals["accepted"] + totals["refused"]["content-spam"])
    assert {recipient: final == "accepted" for recipient, _, final in outcomes(running.data)} == {
        recipient: codes[-1] == 250 for recipient, codes in seen.items()
    }
    assert sorted(message.recipient for message in inbox.messages(running.data)) == sorted(
        recipient for recipient, codes in seen.items() if codes[-1] == 250
    )


def tries(running: Running, count: int) -> list[int]:
    """The reply to RCPT for ``count`` people."""
    with running.client("gmail") as client:
        client.ehlo()
        codes = []
        for number in range(count):
            client.mail("b@shop.example")
            codes.append(client.rcpt(f"person.{number}@gmail.com")[0])
            client.rset()
        return codes


def test_the_same_seed_runs_the_same_again(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    rates = {"gmail": {"unknown": 0.3, "full": 0.2}}
    first = tries(start_sandbox(rates=rates, seed=5, data=tmp_path / "a"), 100)
    again = tries(start_sandbox(rates=rates, seed=5, data=tmp_path / "b"), 100)
    other = tries(start_sandbox(rates=rates, seed=6, data=tmp_path / "c"), 100)
    assert first == again
    assert first != other
    assert set(first) == {250, 452, 550}


def test_kill_nine_forgets_nothing(tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "rates.toml").write_text('["*"]\n')
    settings = sandbox_settings(tmp_path, time_scale=1)
    host, port = address(settings, 1), settings.sandbox.smtp_port

    def attempt(recipient: str, message_id: str) -> int:
        with smtplib.SMTP(host, port, timeout=15) as client:
            try:
                client.sendmail("b@shop.example", [recipient], letter(message_id))
            except smtplib.SMTPRecipientsRefused as error:
                return int(error.recipients[recipient][0])
            return 250

    with process(settings) as child:
        assert attempt("ann@gmail.com", "1@x") == 250
        assert attempt("unknown@gmail.com", "2@x") == 550
        assert attempt("full-clears@gmail.com", "3@x") == 452
        assert attempt("grey@gmail.com", "4@x") == 451
        child.send_signal(signal.SIGKILL)
        child.wait()
    before = report(tmp_path)["totals"]
    log = tmp_path / "sandbox" / "decisions.log"
    with log.open("ab") as file:
        file.write(b'[1800000000000,"gmail","127.0.0.1","torn@')  # as if the kill had cut a write in two
    with process(settings) as child:
        assert report(tmp_path)["totals"] == before
        assert attempt("ann@gmail.com", "1@x") == 250  # the client never read the first 250, say
        assert attempt("full-clears@gmail.com", "3@x") == 452
        assert attempt("full-clears@gmail.com", "3@x") == 250
        assert attempt("grey@gmail.com", "4@x") == 451  # its five minutes still run
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    totals = report(tmp_path)["totals"]
    assert (totals["accepted"], totals["repeats"]) == (2, 1)
    assert totals["refused"] == {"unknown-user": 1}
    assert totals["deferred"] == {"greylisted": 2, "mailbox-full": 2}
    assert [message.data for message in inbox.messages(tmp_path, "ANN@gmail.com")] == [letter("1@x")] * 2


@pytest.fixture
def signed() -> tuple[bytes, str]:
    """A signed message and the record with its key."""
    key = dkim.SigningKey.generate()
    header, body = b"From: news@shop.example\r\nMessage-ID: <s@x>\r\nSubject: Hi\r\n", b"Hello\r\n"
    fields = dkim.sign(header, body, [dkim.Signer("shop.example", "s1", key)], now_ms=SystemClock().now_ms())
    return fields + header + b"\r\n" + body, key.public_record()


def test_signatures_are_verified_against_what_is_published(
    start_sandbox: StartSandbox, signed: tuple[bytes, str]
) -> None:
    running = start_sandbox(clock=SystemClock())
    message, record = signed

    def bad_after(data: bytes, recipient: str) -> int:
        with running.client("gmail") as client:
            assert client.sendmail("b@shop.example", [recipient], data) == {}
        return int(report(running.data)["totals"]["bad_signatures"])

    assert bad_after(message, "a@gmail.com") == 1  # no key published
    publish(running.data, "s1._domainkey.shop.example", "TXT", record)
    assert bad_after(message, "b@gmail.com") == 1
    assert bad_after(message.replace(b"Hello", b"Hallo"), "c@gmail.com") == 2
    assert bad_after(letter("unsigned@x"), "d@gmail.com") == 3
    assert next(inbox.messages(running.data, "b@gmail.com")).data == message


def test_saved_mail_is_the_mail_that_came(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    running = start_sandbox()
    with running.client("smallbiz") as client:
        for number, recipient in enumerate(["ann@a.example", "bob@b.example", '"odd / name"@c.example']):
            client.sendmail("b@shop.example", [recipient], letter(f"{number}@x"))
    folder = tmp_path / "out" / "mail"
    assert inbox.save(running.data, folder) == 3
    assert sorted(path.name for path in folder.iterdir()) == [
        "000001-ann@a.example.eml",
        "000002-bob@b.example.eml",
        "000003-_odd___name_@c.example.eml",
    ]
    assert (folder / "000002-bob@b.example.eml").read_bytes() == letter("1@x")
    assert inbox.save(running.data, tmp_path / "ann", "Ann@A.example") == 1


def test_a_client_that_does_not_read_is_not_listened_to_and_loses_nothing(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    count = 150_000
    with socket.create_connection((running.addresses["gmail"], running.port), 20) as client:
        writer = threading.Thread(target=client.sendall, args=(b"NOOP\r\n" * count + b"QUIT\r\n",))
        writer.start()
        received = bytearray()
        while piece := client.recv(65_536):
            received += piece
        writer.join()
    assert received.count(b"\n250 ") == count
    assert received.splitlines()[-1].startswith(b"221 ")


def test_a_port_in_use_is_named(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    running = start_sandbox()
    taken = running.settings.sandbox
    dns = sandbox_settings(tmp_path / "other", dns_port=taken.dns_port)
    smtp = sandbox_settings(tmp_path / "other", smtp_port=taken.smtp_port, address_base=taken.address_base)
    for settings, where, port in (
        (dns, "sandbox.dns_port", taken.dns_port),
        (smtp, "sandbox.smtp_port", taken.smtp_port),
    ):
        with pytest.raises(ConfigError, match=f"port {port}") as raised:
            asyncio.run(SandboxServer(settings, SystemClock()).start())
        assert raised.value.where == where
        assert where in raised.value.mend
    with running.client("gmail") as client:
        assert client.ehlo()[0] == 250


def test_it_never_listens_beyond_loopback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        SandboxServer(sandbox_settings(tmp_path, address_base="192.0.2.0"), SystemClock())


async def test_the_role_serves_until_it_is_told_to_stop(tmp_path: Path, trusting_tls: ssl.SSLContext) -> None:
    """On the standard event loop too, TLS included."""
    settings = sandbox_settings(tmp_path)
    stop = asyncio.Event()
    server = asyncio.create_task(role.run(settings, SystemClock(), stop))
    client = aiosmtplib.SMTP(
        hostname=address(settings, 3),
        port=settings.sandbox.smtp_port,
        start_tls=True,
        tls_context=trusting_tls,
        timeout=20,
    )
    while True:
        await asyncio.sleep(0.01)
        try:
            await client.connect()
            break
        except aiosmtplib.SMTPConnectError:
            assert not server.done()
    await client.sendmail("b@shop.example", "ok@yahoo.com", letter("tls@x"))
    stop.set()
    await server
    with pytest.raises(aiosmtplib.SMTPException):
        await client.noop()
    assert report(tmp_path)["totals"]["accepted"] == 1


def test_start_and_stop_again_on_the_same_folder(start_sandbox: StartSandbox) -> None:
    for round_number in range(3):
        running = start_sandbox(rates=NO_RATES)
        with running.client("gmail") as client:
            client.sendmail("b@shop.example", ["ann@gmail.com"], letter(f"{round_number}@x"))
        running.stop()
        running.stop()
    assert report(running.data)["totals"]["accepted"] == 3
    assert json.dumps(report(running.data))
