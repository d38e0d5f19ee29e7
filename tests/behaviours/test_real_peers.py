"""What real clients submit arrives at real Postfix, Exim and OpenSMTPD byte for byte, signed, once."""

from __future__ import annotations

import base64
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from email.header import Header
from pathlib import Path

import pytest

from tests.behaviours.live import Live
from tests.behaviours.mail import as_sent, attachments_of, parsed, signed_well, text_of
from tests.behaviours.network import Network
from tests.peers.servers import MailServer

DOMAINS = ("postfix.test", "exim.test", "opensmtpd.test")
PEOPLE = [f"ann@{domain}" for domain in DOMAINS]
TEXT = "Grüße aus Łódź, שלום.\n.one dot\n..two dots\n" + "long " * 195 + "end\n\nlast line\n"
ATTACHMENTS = {
    "Übersicht 2026.bin": random.Random(1).randbytes(50_000),
    "notes.dat": "naïve\r\ncafé\n\r\0".encode("latin-1"),
}


@pytest.fixture(scope="module")
def servers(
    network: Network, postfix_process: MailServer, exim_process: MailServer, opensmtpd_process: MailServer
) -> list[MailServer]:
    found = [postfix_process, exim_process, opensmtpd_process]
    for domain, server in zip(DOMAINS, found, strict=True):
        network.mail_domain(domain, (10, network.hand_on(server.host, server.port)))
    return found


@pytest.fixture
def emptied(servers: list[MailServer]) -> list[MailServer]:
    for server in servers:
        server.clear()
    return servers


def raw_message(subject: str) -> bytes:
    """Multipart as mail programs make it, 8bit text and long lines included; CRLF."""
    parts = [
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + TEXT.replace("\n", "\r\n").encode()
    ]
    for name, content in ATTACHMENTS.items():
        encoded = base64.encodebytes(content).replace(b"\n", b"\r\n")
        word = Header(name, "utf-8").encode() if not name.isascii() else name
        disposition = f'Content-Disposition: attachment; filename="{word}"'
        parts.append(
            f"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n{disposition}\r\n\r\n".encode()
            + encoded
        )
    head = (
        "From: Der Läden <shop@shop.test>".encode().replace("Der Läden".encode(), b"=?utf-8?q?Der_L=C3=A4den?=")
        + b"\r\nTo: "
        + ", ".join(PEOPLE).encode()
        + f"\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=part\r\n\r\n".encode()
    )
    return head + b"".join(b"--part\r\n" + part + b"\r\n" for part in parts) + b"--part--\r\n"


def run(folder: Path, *command: str, text: bytes = b"") -> None:
    assert shutil.which(command[0]), f"{command[0]} is missing: run scripts/install-submission-clients"
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MAILRC": "/dev/null"}
    done = subprocess.run(command, input=text, capture_output=True, env=environment, cwd=folder, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def by_swaks(live: Live, folder: Path, subject: str) -> None:
    (folder / "message").write_bytes(raw_message(subject).replace(b"\r\n", b"\n"))
    host, port = live.submission
    user, password = live.login
    run(
        folder,
        *("swaks", "--server", f"{host}:{port}", "--tls", "--auth", "PLAIN", "--au", user, "--ap", password),
        *("--from", "shop@shop.test", "--to", ",".join(PEOPLE), "--data", "@message", "--helo", "client.test"),
    )


def by_smtplib(live: Live, folder: Path, subject: str) -> None:
    live.submit(raw_message(subject), "shop@shop.test", PEOPLE, ["BODY=8BITMIME"])


def by_msmtp(live: Live, folder: Path, subject: str) -> None:
    host, port = live.submission
    user, password = live.login
    run(
        folder,
        *("msmtp", f"--host={host}", f"--port={port}", "--auth=plain", f"--user={user}"),
        *(f"--passwordeval=echo {password}", "--tls=on", "--tls-starttls=on", "--tls-certcheck=off"),
        *("--from=shop@shop.test", "--", *PEOPLE),
        text=raw_message(subject).replace(b"\r\n", b"\n"),
    )


def by_s_nail(live: Live, folder: Path, subject: str) -> None:
    host, port = live.submission
    user, password = live.login
    for name, content in ATTACHMENTS.items():
        (folder / name).write_bytes(content)
    run(
        folder,
        *("s-nail", "-:/", "-Sv15-compat", "-Sttycharset=utf-8", "-Sfrom=shop@shop.test", "-Shostname=client.test"),
        *(f"-Smta=smtp://{user}:{password}@{host}:{port}", "-Ssmtp-config=starttls,auth=plain"),
        *("-Ssmtp-use-starttls", "-Ssmtp-auth=plain", "-Stls-verify=ignore", "-Ssendwait", "-s", subject),
        *(word for name in ATTACHMENTS for word in ("-a", name)),
        *PEOPLE,
        text=TEXT.encode(),
    )


CLIENTS: dict[str, Callable[[Live, Path, str], None]] = {
    "swaks": by_swaks,
    "smtplib": by_smtplib,
    "msmtp": by_msmtp,
    "s-nail": by_s_nail,
}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_client_submits_arrives_whole(
    live: Live, emptied: list[MailServer], tmp_path: Path, client: str
) -> None:
    CLIENTS[client](live, tmp_path, f"By {client}")
    for server in emptied:
        (stored,) = server.wait_for(1)
        message = as_sent(stored)
        assert parsed(message)["Subject"] == f"By {client}"
        assert text_of(message).replace("\r\n", "\n") == TEXT
        assert attachments_of(message) == ATTACHMENTS
        assert signed_well(message, live.key_of), server.name
        assert [len(parsed(message).get_all(name, [])) for name in ("Message-ID", "Date", "From", "To")] == [1] * 4
        (received,) = [one for one in parsed(message).get_all("Received", []) if "by mta.shop.test" in one]
        assert "with ESMTPSA" in received
        assert "for <" not in received  # three recipients: none is told of another


def test_a_structured_message_arrives_whole(live: Live, emptied: list[MailServer]) -> None:
    attached = [
        {"filename": name, "content": base64.b64encode(content).decode()} for name, content in ATTACHMENTS.items()
    ]
    attached.append(
        {
            "filename": "logo.png",
            "content_type": "image/png",
            "content": base64.b64encode(b"\x89PNG not really").decode(),
            "content_id": "logo",
        }
    )
    answer = live.post(
        "/v1/messages",
        {
            "from": "Läden <shop@shop.test>",
            "to": [f"Žofie Nováková <{PEOPLE[0]}>"],
            "cc": PEOPLE[1:2],
            "bcc": PEOPLE[2:],
            "subject": "Ваш заказ 1234",
            "html": '<p>Grüße <img src="cid:logo" alt=""></p>',
            "headers": {"X-Order": "1234"},
            "attachments": attached,
        },
    )
    for one in answer["deliveries"]:
        assert live.wait_delivery(one["delivery"])["delivery"]["state"] == "delivered"
    for server in emptied:
        (stored,) = server.wait_for(1)
        message = as_sent(stored)
        found = parsed(message)
        assert (found["Subject"], found["X-Order"]) == ("Ваш заказ 1234", "1234")
        assert found["To"].addresses[0].display_name == "Žofie Nováková"
        assert found["Bcc"] is None
        assert PEOPLE[2].encode() not in message.partition(b"\r\nDKIM-Signature")[2]
        assert attachments_of(message) == {**ATTACHMENTS, "logo.png": b"\x89PNG not really"}
        assert "Grüße" in text_of(message, "html")
        assert "Grüße" in text_of(message)
        assert signed_well(message, live.key_of), server.name
        assert found["Message-ID"] == answer["message_id"]


def test_the_newsletter_arrives(live: Live, emptied: list[MailServer]) -> None:
    example = Path(__file__).parents[2] / "examples" / "newsletter"
    names = ["Zoë", "שרה", 'Ann "A" O\'Neil', "<b>Tom</b>", "محمد"]
    rows = [f"{number}-ann@{domain};{name}" for domain in DOMAINS for number, name in enumerate(names)]
    list_file = live.folder / "newsletter.csv"
    list_file.write_text("email;first_name\n" + "\n".join(rows).replace('"', "'") + "\n", "utf-8-sig")
    ran = live.cli(
        *("send", "--from", "Shop <news@shop.test>", "--subject", "Autumn, {{ first_name }}", "--wait", "--json"),
        *("--html", str(example / "newsletter.html"), "--recipients", str(list_file)),
    )
    assert ran.code == 0, ran.out + ran.err
    assert (ran.last["delivered"], ran.last["recipients"]) == (15, 15)
    for server in emptied:
        found = [as_sent(stored) for stored in server.wait_for(5)]
        assert sorted(parsed(message)["Subject"] for message in found) == sorted(
            f"Autumn, {name}".replace('"', "'") for name in names
        )
        assert all(signed_well(message, live.key_of) for message in found), server.name
        assert len({parsed(message)["Message-ID"] for message in found}) == 5
