"""The nightly mail of what changed: a zone breaks on a real Knot, and whoever runs the server is told once."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dkim
import pytest

from tests.behaviours.inbox import knot, peer
from tests.behaviours.network import Network
from tests.behaviours.peer import Peer
from tests.behaviours.server import Server, merged, wait_until
from tests.behaviours.test_domain_in_the_dns import allowed, settings
from tests.peers.knot import Knot

__all__ = ["knot", "peer"]
TO = "ops@inbox.test"


@pytest.fixture
def server(tmp_path: Path, knot: Knot, network: Network) -> Iterator[Server]:
    own = merged(settings(knot), {"delivery": {"remote_port": network.port, "ipv6": False}})
    with Server(tmp_path / "server", own, sandbox=False) as started:
        yield started


def test_a_zone_that_breaks_is_told_once(server: Server, knot: Knot, peer: Peer) -> None:
    allowed(server, knot)
    (selector,) = server.cli("domain", "add", "shop.test", "--publish", "--json").last["selectors"]
    calm = server.cli("domain", "digest")
    assert calm.out.startswith("From:    mailfleet@shop.test\nTo:      nobody\n")
    assert "set digest.to" in calm.err
    good = knot.everything("shop.test")
    knot.replace("shop.test", [line for line in good if not line.startswith("_dmarc")])
    wait_until(lambda: server.events(kind="domain_changed"), what=server.output)

    server.change("digest", "to", TO)
    server.change("digest", "at", f"{datetime.now(UTC) - timedelta(minutes=5):%H:%M}")
    server.restart()
    wait_until(lambda: peer.messages, what=server.output)
    (told,) = peer.messages
    assert told.rcpt.startswith("RCPT TO:<ops@inbox.test>")
    lines = {line.split()[0].rstrip("."): line.split(None, 3)[3] for line in knot.everything("shop.test")}
    record = lines[f"{selector}._domainkey.shop.test"].replace('" "', "").strip('"')
    assert dkim.verify(told.data, dnsfunc=lambda name, timeout=5: record.encode())
    message = email.message_from_bytes(told.data, policy=email.policy.default)
    assert (message["From"], message["To"]) == ("Mailfleet <mailfleet@shop.test>", TO)
    assert message["Subject"].startswith("Mailfleet at mta.shop.test: 1 check fails")
    assert message["Auto-Submitted"] == "auto-generated"
    plain, rich = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert rich is not None
    text = plain.get_content().replace("\r\n", "\n")
    assert "shop.test  dmarc\n  was ok, now failed since " in text
    assert "  next step: publish it at _dmarc.shop.test" in text
    html = rich.get_content()
    assert "shop.test &nbsp;dmarc" in html or "shop.test \u00a0dmarc" in html

    server.kill("jobs")
    server.restart()
    knot.replace("shop.test", good)
    wait_until(lambda: len(server.events(kind="domain_changed")) > 1, what=server.output)
    sent = [event for event in server.events(kind="accepted") if TO in str(event)]
    assert (len(sent), len(peer.messages)) == (1, 1), "not twice"
    preview = server.cli("domain", "digest", "--json").last
    assert preview["subject"] == "Mailfleet at mta.shop.test: 1 right again"
    assert preview["nothing"] is False
