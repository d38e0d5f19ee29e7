"""What a mail host offers decides how the message travels: 8bit or converted, SMTPUTF8 or not at all, TLS where it works."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

import pytest

from tests.behaviours.live import HOSTNAME, Live, attempts_of
from tests.behaviours.mail import attachments_of, parsed, signed_well, text_of
from tests.behaviours.network import Network
from tests.behaviours.peer import EXTENSIONS, Peer, Received

SETTINGS = {"delivery": {"source_ipv4": "127.0.0.9", "ehlo_name": "out.shop.test"}}
DOMAINS = (f"site{number}.test" for number in count())

LETTER = (
    "From: Shop <shop@shop.test>\r\nTo: ann@site.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b1\r\n\r\n"
    "--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "Grüße aus Łódź.\r\n.a dot\r\n..two dots\r\n\r\n"
    '--b1\r\nContent-Type: text/plain; charset=iso-8859-1; name="latin.txt"\r\n'
    "Content-Disposition: attachment; filename=latin.txt\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
).encode() + b"caf\xe9 au lait\r\n--b1--\r\n"


def host(network: Network, **manners: Any) -> tuple[str, Peer]:
    domain, peer = next(DOMAINS), network.peer(**manners)
    network.mail_domain(domain, (10, peer.host))
    return domain, peer


def without(*words: str) -> tuple[str, ...]:
    return tuple(one for one in EXTENSIONS if one.split(" ")[0] not in words)


def the_only(peer: Peer) -> Received:
    assert not peer.wrong
    (message,) = peer.messages
    return message


def test_8bit_travels_as_it_is_where_it_is_offered(live: Live, network: Network) -> None:
    domain, peer = host(network)
    assert live.wait_delivery(live.raw(LETTER, f"ann@{domain}"))["delivery"]["state"] == "delivered"
    message = the_only(peer)
    assert "BODY=8BITMIME" in message.mail
    assert "Grüße aus Łódź.\r\n.a dot\r\n..two dots\r\n".encode() in message.data
    assert b"caf\xe9 au lait" in message.data
    assert signed_well(message.data, live.key_of)


def test_8bit_is_converted_and_then_signed_where_it_is_not(live: Live, network: Network) -> None:
    domain, peer = host(network, extensions=without("8BITMIME", "SMTPUTF8"))
    assert live.wait_delivery(live.raw(LETTER, f"ann@{domain}"))["delivery"]["state"] == "delivered"
    message = the_only(peer)
    assert "BODY" not in message.mail
    assert message.data.isascii()
    assert signed_well(message.data, live.key_of)
    assert text_of(message.data).replace("\r\n", "\n") == "Grüße aus Łódź.\n.a dot\n..two dots\n"
    assert attachments_of(message.data)["latin.txt"] == b"caf\xe9 au lait"
    assert parsed(message.data)["Subject"] == "Grüße"


def test_the_same_message_goes_both_ways(live: Live, network: Network) -> None:
    (modern, new), (ancient, old) = host(network), host(network, extensions=without("8BITMIME", "SMTPUTF8"))
    answer = live.http.post(
        "/v1/messages",
        content=LETTER,
        params={"to": [f"ann@{modern}", f"bob@{ancient}"]},
        headers={"Content-Type": "message/rfc822"},
    )
    for one in answer.json()["deliveries"]:
        assert live.wait_delivery(one["delivery"])["delivery"]["state"] == "delivered"
    assert not the_only(new).data.isascii()
    assert the_only(old).data.isascii()
    assert all(signed_well(the_only(peer).data, live.key_of) for peer in (new, old))


def test_a_utf8_address_needs_a_host_that_offers_it(live: Live, network: Network) -> None:
    domain, peer = host(network)
    assert live.to(f"jörg@{domain}")["delivery"]["state"] == "delivered"
    message = the_only(peer)
    assert message.rcpt.startswith(f"RCPT TO:<jörg@{domain}>")
    assert "SMTPUTF8" in message.mail

    domain, peer = host(network, extensions=without("SMTPUTF8"))
    story = live.to(f"jörg@{domain}")
    assert story["delivery"]["state"] == "bounced"
    assert (attempts_of(story)[0]["failure"], attempts_of(story)[0]["phase"]) == ("needs-smtputf8", "mail")
    assert attempts_of(story)[0]["class"] == story["delivery"]["bounce_class"] == "unsupported"
    assert not peer.messages
    assert not [one for one in live.pages("/v1/suppressions") if one["address"] == f"jörg@{domain}"]


def test_an_idn_domain_needs_nothing_of_the_host(live: Live, network: Network) -> None:
    peer = network.peer(extensions=without("SMTPUTF8", "8BITMIME"))
    network.mail_domain("xn--bcher-kva.test", (10, peer.host))
    assert live.to("ann@bücher.test")["delivery"]["state"] == "delivered"
    assert the_only(peer).rcpt.startswith("RCPT TO:<ann@xn--bcher-kva.test>")


def test_too_large_bounces_before_the_message_is_sent(live: Live, network: Network) -> None:
    domain, peer = host(network, extensions=("PIPELINING", "SIZE 5000"))
    story = live.to(f"ann@{domain}", text="x" * 70 + "\n" + ("y" * 70 + "\n") * 100)
    assert story["delivery"]["state"] == "bounced"
    assert story["delivery"]["bounce_class"] == "message-too-large"
    assert not [line for line in peer.commands if line.startswith(("DATA", "BDAT"))]
    assert live.to(f"ann@{domain}")["delivery"]["state"] == "delivered"
    assert re.search(r"SIZE=\d+", the_only(peer).mail)


def test_tls_is_used_where_it_is_offered(live: Live, network: Network) -> None:
    domain, peer = host(network, tls="good")
    story = live.to(f"ann@{domain}")
    assert the_only(peer).tls
    assert attempts_of(story)[0]["tls"].startswith("TLSv1.3 ")
    # What was said before TLS counts for nothing: EHLO comes again (RFC 3207 4.2)
    assert [line.split(" ")[0] for line in peer.commands[:3]] == ["EHLO", "STARTTLS", "EHLO"]


def test_clear_text_where_it_is_not(live: Live, network: Network) -> None:
    domain, peer = host(network)
    story = live.to(f"ann@{domain}")
    assert not the_only(peer).tls
    assert "tls" not in attempts_of(story)[0]


def test_clear_text_where_the_handshake_fails(live: Live, network: Network) -> None:
    domain, peer = host(network, tls="broken")
    story = live.to(f"ann@{domain}")
    assert story["delivery"]["state"] == "delivered"
    assert story["delivery"]["attempts"] == 1
    assert not the_only(peer).tls
    assert "tls" not in attempts_of(story)[0]
    assert "STARTTLS" in peer.commands
    assert "STARTTLS" not in peer.sessions[-1].commands


@pytest.mark.parametrize("answer", ["454 4.7.0 TLS not available", "421 4.7.0 go away"])
def test_starttls_refused_is_no_reason_to_give_up(live: Live, network: Network, answer: str) -> None:
    domain, peer = host(network, tls="good", answer=lambda verb, line: answer if verb == "STARTTLS" else None)
    assert live.to(f"ann@{domain}")["delivery"]["state"] == "delivered"
    assert not the_only(peer).tls


def test_the_host_sees_the_source_address_and_the_name(live: Live, network: Network) -> None:
    domain, peer = host(network)
    live.to(f"ann@{domain}")
    (session,) = peer.sessions
    assert session.client == "127.0.0.9"
    assert session.ehlo == ["out.shop.test"]
    assert HOSTNAME != "out.shop.test"


def test_a_host_that_only_knows_helo(live: Live, network: Network) -> None:
    domain, peer = host(network, answer=lambda verb, line: "502 5.5.1 what?" if verb == "EHLO" else None)
    assert live.wait_delivery(live.raw(LETTER, f"ann@{domain}"))["delivery"]["state"] == "delivered"
    message = the_only(peer)
    assert peer.commands[1] == "HELO out.shop.test"
    assert re.fullmatch(r"MAIL FROM:<[^ ]*>", message.mail)
    assert message.data.isascii()
    assert signed_well(message.data, live.key_of)


def test_without_pipelining_one_command_waits_for_another(live: Live, network: Network) -> None:
    domain, peer = host(network, extensions=without("PIPELINING"))
    story = live.to(f"ann@{domain}")
    assert the_only(peer)
    spoken = re.findall(r"(?m)^\+\d+ ([<>]) (\S+)", attempts_of(story)[0]["transcript"])
    mail = spoken.index((">", "MAIL"))
    assert [mark for mark, _ in spoken[mail : mail + 6]] == [">", "<"] * 3
