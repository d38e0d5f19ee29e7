"""Every manner of every provider, as a client sees it, and what the report says about it afterwards."""

from __future__ import annotations

import smtplib
import ssl
import time

import pytest

from mailfleet.sandbox import inbox
from mailfleet.sandbox.report import outcomes, report
from tests.sandbox.conftest import ManualClock, Running, StartSandbox, letter

DOMAIN = {
    "gmail": "gmail.com",
    "outlook": "outlook.com",
    "yahoo": "yahoo.com",
    "smallbiz": "corner-shop.example",
    "legacy": "legacy.example",
}
SENDER = "bounce@shop.example"


def send(
    running: Running, provider: str, local_part: str, message: bytes = b"", sender: str = SENDER
) -> tuple[int, str]:
    """One attempt on a connection of its own: the last reply to this recipient, code -1 when the connection broke."""
    client = running.client(provider)
    try:
        client.ehlo_or_helo_if_needed()
        assert client.mail(sender)[0] == 250
        code, text = client.rcpt(f"{local_part}@{DOMAIN[provider]}")
        if code == 250:
            code, text = client.data(message or letter(f"{local_part}@{provider}"))
    except smtplib.SMTPServerDisconnected:
        return -1, ""
    finally:
        client.close()
    return code, text.decode()


@pytest.mark.parametrize("provider", DOMAIN)
@pytest.mark.parametrize(
    ("local_part", "reason", "words"),
    [
        ("unknown", "unknown-user", ("exist", "unknown", "unavailable", "doesn't have")),
        ("nobody7", "unknown-user", ("exist", "unknown", "unavailable", "doesn't have")),
        ("disabled.x", "mailbox-disabled", ("disabled",)),
        ("blocked", "ip-blocked", ("block", "spamhaus")),
        ("spam+1", "content-spam", ("spam", "unsolicited")),
    ],
)
def test_refused_for_good_every_time(
    start_sandbox: StartSandbox, provider: str, local_part: str, reason: str, words: tuple[str, ...]
) -> None:
    running = start_sandbox()
    for _ in range(2):
        code, text = send(running, provider, local_part)
        assert 500 <= code < 600
        assert any(word in text.lower() for word in words), text
    counts = report(running.data)["providers"][provider]
    assert counts["refused"] == {reason: 1}
    assert counts["repeated_refusals"] == 1
    assert [final for _, _, final in outcomes(running.data)] == ["refused"]


@pytest.mark.parametrize("provider", DOMAIN)
@pytest.mark.parametrize(
    ("local_part", "tries", "reason"),
    [("full-clears", 2, "mailbox-full"), ("later", 1, "try-later"), ("ratelimit", 1, "rate-limited")],
)
def test_put_off_some_times_then_taken(
    start_sandbox: StartSandbox, provider: str, local_part: str, tries: int, reason: str
) -> None:
    running = start_sandbox()
    assert all(400 <= send(running, provider, local_part)[0] < 500 for _ in range(tries))
    assert send(running, provider, local_part)[0] == 250
    counts = report(running.data)["providers"][provider]
    assert counts["deferred"] == {reason: tries}
    assert counts["accepted"] == 1
    assert [final for _, _, final in outcomes(running.data)] == ["accepted"]


@pytest.mark.parametrize("provider", DOMAIN)
def test_a_full_mailbox_stays_full(start_sandbox: StartSandbox, provider: str) -> None:
    running = start_sandbox()
    codes = {send(running, provider, "full")[0] for _ in range(4)}
    assert len(codes) == 1
    assert codes <= {452, 552, 554}
    assert running.client(provider).docmd("NOOP")[0] == 250


@pytest.mark.parametrize("provider", DOMAIN)
def test_greylisting_ends_five_scaled_minutes_after_the_first_try(start_sandbox: StartSandbox, provider: str) -> None:
    clock = ManualClock()
    running = start_sandbox(clock=clock, time_scale=10)
    assert send(running, provider, "grey")[0] == 451
    clock.at_ms += 29_999
    code, text = send(running, provider, "grey")
    assert code == 451
    assert "greylist" in text.lower()
    clock.at_ms += 1
    assert send(running, provider, "grey", sender="other@shop.example")[0] == 250  # same domain: no stranger any more
    assert send(running, provider, "grey", sender="ann@stranger.example")[0] == 451


def test_421_closes_the_connection(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    client = running.client("yahoo")
    client.ehlo()
    client.mail(SENDER)
    code, text = client.rcpt("later@yahoo.com")
    assert code == 421
    assert b"[TSS04]" in text
    assert client.sock is not None
    assert client.sock.recv(1) == b""


def test_a_connection_breaks_off_in_the_middle_of_a_message_once(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    assert send(running, "smallbiz", "drop", letter("drop@x", "word\r\n" * 5000))[0] == -1
    assert send(running, "smallbiz", "drop", letter("drop@x"))[0] == 250
    counts = report(running.data)["providers"]["smallbiz"]
    assert (counts["deferred"], counts["accepted"]) == ({"connection-dropped": 1}, 1)
    assert [(mid, final) for _, mid, final in outcomes(running.data)] == [("<drop@x>", "accepted")]


def test_a_slow_provider_holds_up_nobody_else(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    slow = running.client("smallbiz")
    slow.ehlo()
    slow.mail(SENDER)
    slow.rcpt("slow@corner-shop.example")
    slow.putcmd("DATA")
    assert slow.getreply()[0] == 354
    started_s = time.monotonic()
    slow.send(letter("slow@x") + b".\r\nNOOP\r\n")
    assert send(running, "smallbiz", "ok")[0] == 250
    assert report(running.data)["totals"]["accepted"] == 1  # the slow one is not even decided yet
    assert slow.getreply()[0] == 250
    assert time.monotonic() - started_s >= 2.9
    assert slow.getreply()[0] == 250  # NOOP waited its turn


def test_a_client_that_gives_up_on_a_slow_reply_leaves_nothing_behind(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    slow = running.client("gmail")
    slow.ehlo()
    slow.mail(SENDER)
    slow.rcpt("slow@gmail.com")
    slow.putcmd("DATA")
    slow.getreply()
    slow.send(letter("slow@x") + b".\r\n")
    slow.close()
    running.stop()
    assert report(running.data)["totals"]["accepted"] == 0


def test_yahoo_finds_out_about_unknown_users_after_the_message(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    client = running.client("yahoo")
    client.ehlo()
    client.mail(SENDER)
    assert client.rcpt("unknown@yahoo.com")[0] == 250
    code, text = client.data(letter("late@x"))
    assert (code, b"(unknown@yahoo.com)" in text) == (554, True)
    assert list(outcomes(running.data)) == [("unknown@yahoo.com", "<late@x>", "refused")]


def test_a_refused_message_is_refused_for_all_its_recipients(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    client = running.client("gmail")
    client.ehlo()
    client.mail(SENDER)
    for local_part, code in (("ann", 250), ("unknown", 550), ("spam", 250)):
        assert client.rcpt(f"{local_part}@gmail.com")[0] == code
    assert client.data(letter("many@x"))[0] == 550
    assert report(running.data)["totals"]["refused"] == {"content-spam": 2, "unknown-user": 1}


def test_messages_per_connection_are_limited(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    client = running.client("yahoo")
    for number in range(20):
        assert client.sendmail(SENDER, ["ann@yahoo.com"], letter(f"{number}@x")) == {}
    assert client.mail(SENDER) == (421, b"Max message per connection reached, closing transmission channel")
    counts = report(running.data)["providers"]["yahoo"]
    assert (counts["accepted"], counts["turned_away"]) == (20, {"messages": 1})


def test_connections_at_once_are_limited_and_freed_again(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    clients = [running.client("legacy") for _ in range(4)]
    with pytest.raises(smtplib.SMTPConnectError, match="421"):
        running.client("legacy")
    assert clients.pop().quit()[0] == 221
    assert running.client("legacy").helo()[0] == 250
    assert report(running.data)["providers"]["legacy"]["turned_away"] == {"connections": 1}


def test_connections_a_minute_are_limited_in_scaled_time(
    start_sandbox: StartSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from mailfleet.sandbox import catalogue

    shipped = catalogue.load
    monkeypatch.setattr(
        catalogue, "load", lambda *given: tuple(replace(spec, connections_per_minute=3) for spec in shipped(*given))
    )
    clock = ManualClock()
    running = start_sandbox(clock=clock, time_scale=60)
    for _ in range(3):
        running.client("gmail").close()
    with pytest.raises(smtplib.SMTPConnectError, match="421"):
        running.client("gmail")
    clock.at_ms += 1000
    assert running.client("gmail").ehlo()[0] == 250


def test_mail_for_somebody_elses_domain_is_refused(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    client = running.client("gmail")
    client.ehlo()
    client.mail(SENDER)
    assert client.rcpt("ann@yahoo.com")[0] == 550
    assert client.rcpt("ann@corner-shop.example")[0] == 550
    assert client.rcpt("ann@agency.example")[0] == 250
    assert report(running.data)["totals"]["refused"] == {"relay-denied": 2}


@pytest.mark.parametrize("provider", ["gmail", "outlook", "yahoo"])
def test_starttls(start_sandbox: StartSandbox, trusting_tls: ssl.SSLContext, provider: str) -> None:
    running = start_sandbox()
    client = running.client(provider)
    client.ehlo()
    assert client.has_extn("starttls")
    assert client.starttls(context=trusting_tls)[0] == 220
    assert client.mail(SENDER)[0] == 503  # RFC 3207 4.2: what was said before is forgotten
    client.ehlo()
    assert not client.has_extn("starttls")
    assert client.sendmail(SENDER, [f"ann@{DOMAIN[provider]}"], letter("tls@x", "long line\r\n" * 20_000)) == {}
    assert next(inbox.messages(running.data)).data == letter("tls@x", "long line\r\n" * 20_000)


def test_a_failed_handshake_frees_its_place(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    for _ in range(25):  # more than the provider's limit of connections
        client = running.client("outlook")
        client.ehlo()
        assert client.docmd("STARTTLS")[0] == 220
        assert client.sock is not None
        client.sock.sendall(b"this is not a handshake\r\n")
        while client.sock.recv(4096):
            pass
        client.close()
    assert running.client("outlook").ehlo()[0] == 250


def test_small_servers_offer_no_tls_and_the_old_one_not_even_ehlo(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    client = running.client("smallbiz")
    client.ehlo()
    assert not client.has_extn("starttls")
    assert client.docmd("STARTTLS")[0] == 503
    old = running.client("legacy")
    assert old.ehlo()[0] == 502
    assert old.helo()[0] == 250
    assert old.docmd("MAIL", "FROM:<a@shop.example> BODY=8BITMIME")[0] == 555


def test_an_internationalised_address_needs_smtputf8(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    client = running.client("gmail")
    client.ehlo()
    client.docmd("MAIL", f"FROM:<{SENDER}>")
    client.send("RCPT TO:<jörg@gmail.com>\r\n".encode())
    assert client.getreply() == (553, b"5.6.7 Non-ASCII addresses need SMTPUTF8")
    client.rset()
    client.docmd("MAIL", f"FROM:<{SENDER}> BODY=8BITMIME SMTPUTF8")
    client.send("RCPT TO:<unknown-jörg@gmail.com>\r\nRCPT TO:<jörg@gmail.com>\r\n".encode())
    assert client.getreply()[0] == 550
    assert client.getreply()[0] == 250
    assert client.data(letter("utf8@x", "käse\r\n"))[0] == 250
    assert next(inbox.messages(running.data, "JÖRG@gmail.com")).data == letter("utf8@x", "käse\r\n")
    yahoo = running.client("yahoo")
    yahoo.ehlo()
    assert yahoo.docmd("MAIL", f"FROM:<{SENDER}> SMTPUTF8")[0] == 555
