"""The sandbox's DNS, asked by dnspython over UDP and TCP."""

from __future__ import annotations

import os
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.resolver
import pytest

from mailfleet.base.errors import InputError
from mailfleet.mail.address import domain_to_ascii
from mailfleet.sandbox.published import Published, publish
from tests.sandbox.conftest import Running, StartSandbox

LONG_KEY = "v=DKIM1; k=rsa; p=" + "A" * 800


def ask(running: Running, name: str, kind: str, *, tcp: bool = False, edns: bool = True) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=edns)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, "127.0.0.1", port=running.settings.sandbox.dns_port, timeout=5)


def texts(response: dns.message.Message) -> list[str]:
    return sorted(rdata.to_text() for rrset in response.answer for rdata in rrset)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("domain", "host", "provider"),
    [
        ("gmail.com", "gmail-smtp-in.l.google.com", "gmail"),
        ("GoogleMail.com", "gmail-smtp-in.l.google.com", "gmail"),
        ("atelier.example", "aspmx.l.google.com", "gmail"),
        ("hotmail.com", "outlook-com.olc.protection.outlook.com", "outlook"),
        ("office.example", "office-example.mail.protection.outlook.com", "outlook"),
        ("aol.com", "mta5.am0.yahoodns.net", "yahoo"),
        ("anything.else.example", "mx1.smallbiz.example", "smallbiz"),
        (domain_to_ascii("bücher.example"), "mx1.smallbiz.example", "smallbiz"),
        ("legacy.example", "mx.legacy.example", "legacy"),
    ],
)
def test_a_domain_leads_to_its_provider(
    start_sandbox: StartSandbox, tcp: bool, domain: str, host: str, provider: str
) -> None:
    running = start_sandbox()
    exchanges = texts(ask(running, domain, "MX", tcp=tcp))
    assert f"5 {host}." in exchanges
    assert texts(ask(running, host, "A", tcp=tcp)) == [running.addresses[provider]]
    assert texts(ask(running, host, "AAAA", tcp=tcp)) == []


def test_special_names(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    assert texts(ask(running, "nullmx.example", "MX")) == ["0 ."]
    for name in ("nxdomain.example", "some.where.invalid"):
        response = ask(running, name, "MX")
        assert response.rcode() == dns.rcode.NXDOMAIN
        assert response.authority  # RFC 2308 3: the SOA that says how long to believe it
    assert ask(running, "servfail.example", "MX").rcode() == dns.rcode.SERVFAIL
    implicit = ask(running, "implicit.example", "MX")
    assert implicit.rcode() == dns.rcode.NOERROR
    assert not implicit.answer
    assert texts(ask(running, "implicit.example", "A")) == [running.addresses["smallbiz"]]
    assert texts(ask(running, "firstdown.example", "MX")) == [
        "10 down.mx.smallbiz.example.",
        "20 mx1.smallbiz.example.",
    ]
    assert texts(ask(running, "nomail.example", "A")) == texts(ask(running, "nomail.example", "MX")) == []


def test_addresses_lead_back_to_names(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    reverse = ".".join(reversed(running.addresses["gmail"].split("."))) + ".in-addr.arpa"
    assert texts(ask(running, reverse, "PTR")) == ["gmail-smtp-in.l.google.com."]


def test_an_ordinary_resolver_understands_it(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], running.settings.sandbox.dns_port
    best = min(resolver.resolve("yahoo.com", "MX"), key=lambda record: record.preference)
    assert str(best.exchange) == "mta5.am0.yahoodns.net."
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve("nxdomain.example", "MX")
    with pytest.raises(dns.resolver.NoAnswer):
        resolver.resolve("gmail-smtp-in.l.google.com", "AAAA")


def test_a_published_record_is_seen_at_once_changed_and_removed(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    name = "s1._domainkey.shop.example"
    assert texts(ask(running, name, "TXT")) == []
    publish(running.data, name, "TXT", "v=DKIM1; p=one")
    assert texts(ask(running, name, "TXT")) == ['"v=DKIM1; p=one"']
    publish(running.data, name, "TXT", "v=DKIM1; p=two")
    assert texts(ask(running, name.upper(), "TXT")) == ['"v=DKIM1; p=two"']
    publish(running.data, name, "TXT")
    assert texts(ask(running, name, "TXT")) == []


def test_published_records_of_other_types_stand_beside_each_other(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    publish(running.data, "shop.example", "MX", "10 mail.shop.example.", "20 mail2.shop.example")
    publish(running.data, "shop.example", "TXT", "v=spf1 ip4:127.0.0.1 -all")
    publish(running.data, "track.shop.example", "CNAME", "mail.shop.example.")
    assert texts(ask(running, "shop.example", "MX")) == ["10 mail.shop.example.", "20 mail2.shop.example."]
    assert texts(ask(running, "shop.example", "TXT")) == ['"v=spf1 ip4:127.0.0.1 -all"']
    assert texts(ask(running, "shop.example", "A")) == []
    assert texts(ask(running, "track.shop.example", "A")) == ["mail.shop.example."]


def test_a_long_record_is_cut_over_udp_and_whole_over_tcp(start_sandbox: StartSandbox) -> None:
    running = start_sandbox()
    publish(running.data, "big._domainkey.shop.example", "TXT", LONG_KEY)
    cut = ask(running, "big._domainkey.shop.example", "TXT", edns=False)
    assert cut.flags & dns.flags.TC
    assert not cut.answer
    whole = ask(running, "big._domainkey.shop.example", "TXT", tcp=True)
    assert texts(whole)[0].replace('" "', "") == f'"{LONG_KEY}"'
    assert texts(ask(running, "big._domainkey.shop.example", "TXT")) == texts(whole)  # EDNS: room enough in UDP


def test_key_lookups_read_what_was_published(tmp_path: Path) -> None:
    published = Published(tmp_path)
    assert published.txt("s1._domainkey.shop.example") is None
    publish(tmp_path, "s1._domainkey.shop.example", "TXT", LONG_KEY)
    publish(tmp_path, "s1._domainkey.bücher.example", "TXT", '"v=DKIM1; " "p=x"')
    assert published.txt("S1._domainkey.shop.example.") == LONG_KEY
    assert published.txt("s1._domainkey.xn--bcher-kva.example") == "v=DKIM1; p=x"


def test_half_a_file_publishes_nothing(tmp_path: Path) -> None:
    published = Published(tmp_path)
    hand = tmp_path / "sandbox" / "dns" / "hand.json"
    hand.write_text('{"name": "a.example", "type": "TXT", "val')
    then_ns = hand.stat().st_mtime_ns
    assert published.txt("a.example") is None
    hand.write_text('{"name": "a.example", "type": "TXT", "values": ["yes"]}')
    os.utime(hand, ns=(then_ns, then_ns))  # as where both were within one tick of the folder's clock
    publish(tmp_path, "b.example", "TXT", "changes the folder")
    assert published.txt("a.example") == "yes"


@pytest.mark.parametrize(("kind", "value"), [("MX", "mail.shop.example"), ("A", "300.1.1.1"), ("NONSENSE", "x")])
def test_a_value_that_is_not_of_its_type_is_refused(tmp_path: Path, kind: str, value: str) -> None:
    with pytest.raises(InputError):
        publish(tmp_path, "shop.example", kind, value)
    assert not list(tmp_path.rglob("*.json"))


def test_garbage_does_not_stop_the_server(start_sandbox: StartSandbox) -> None:
    import socket

    running = start_sandbox()
    where = ("127.0.0.1", running.settings.sandbox.dns_port)
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        for junk in (b"", b"\x00", bytes(11), b"\xff" * 30, b"\x12\x34" + bytes(2) + b"\xff" * 20):
            client.sendto(junk, where)
        answer, _ = client.recvfrom(512)
        assert answer[3] & 15 == dns.rcode.FORMERR
    assert texts(ask(running, "gmail.com", "MX"))
