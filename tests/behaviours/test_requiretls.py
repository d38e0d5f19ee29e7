"""REQUIRETLS and TLS-Required (RFC 8689): who wants TLS all the way gets it or hears so, who wants none of it is not held up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.behaviours.live import Live
from tests.behaviours.mail import parsed
from tests.behaviours.network import Network
from tests.behaviours.peer import EXTENSIONS, Peer
from tests.behaviours.server import wait_until
from tests.behaviours.test_tls_that_is_demanded import AUTHORITY, World, policy

CAREFUL = (*EXTENSIONS, "REQUIRETLS")
ME = "me@shop.test"
LETTER = b"From: Me <me@shop.test>\r\nTo: ann@site.test\r\nSubject: In private\r\n\r\nthe words themselves\r\n"


@pytest.fixture(scope="module")
def world(network: Network, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(network, tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def live(network: Network, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    delivery: dict[str, Any] = {"tls_ca_file": str(world.authority_file), "policy_port": world.port}
    made = Live(tmp_path_factory.mktemp("live"), network, {"delivery": delivery})
    with made:
        made.add_domain("shop.test")
        yield made


def story_of(live: Live, address: str) -> dict[str, Any]:
    """Of the last mail to ``address``, once it is over."""
    (newest, *_) = wait_until(lambda: live.get("/v1/trace", what=address)["items"])
    return live.wait_delivery(newest["delivery"]["delivery"])


def submit(live: Live, *to: str) -> None:
    live.submit(LETTER, ME, to, ["REQUIRETLS", "RET=FULL"])


def test_it_goes_to_a_host_that_proves_itself_and_promises_the_same(live: Live, world: World) -> None:
    peer = world.domain("careful", policy("enforce", "mx0.careful.test"))
    peer.extensions = CAREFUL
    submit(live, "ann@careful.test")
    story = story_of(live, "ann@careful.test")
    assert story["delivery"]["state"] == "delivered"
    assert story["events"][-1]["data"]["tls"].endswith(" verified")
    assert live.to("bob@careful.test", tls="require")["delivery"]["state"] == "delivered"
    assert live.to("carl@careful.test")["delivery"]["state"] == "delivered"
    assert ["REQUIRETLS" in one.mail.split() for one in peer.messages] == [True, True, False]
    assert all(one.tls for one in peer.messages)


def test_a_host_that_does_not_promise_it_gets_only_the_rest(live: Live, world: World, network: Network) -> None:
    peer = world.domain("plain", policy("testing", "mx0.plain.test"))
    home = network.peer(tls="good")  # offers no REQUIRETLS either, and proves nothing
    network.withdraw("shop.test")
    network.mail_domain("shop.test", (10, home.host))
    submit(live, "ann@plain.test")
    story = story_of(live, "ann@plain.test")
    event = next(one["data"] for one in story["events"] if one["kind"] == "bounced")
    assert (event["failure"], event["class"]) == ("requiretls", "tls-required")
    assert "EHLO" in event["transcript"]
    assert live.to("bob@plain.test")["delivery"]["state"] == "delivered"
    assert len(peer.messages) == 1
    assert not any(command.startswith("MAIL") and "REQUIRETLS" in command for command in peer.commands)
    wait_until(lambda: home.messages, what=live.output)
    assert home.messages[0].tls
    assert "REQUIRETLS" not in home.messages[0].mail
    notice = parsed(home.messages[0].data)
    assert b"Status: 5.7.30" in home.messages[0].data
    assert b"the words themselves" not in home.messages[0].data, "RET=FULL does not count"
    assert "REQUIRETLS" in str(notice.get_payload(0))


def test_a_host_that_cannot_prove_itself_gets_nothing(live: Live, world: World, network: Network) -> None:
    forged = world.domain("forged", policy("testing", "mx0.forged.test"), good=False)
    unnamed = network.peer(tls="good", names=("mx0.unnamed.test",), authority=AUTHORITY)
    network.mail_domain("unnamed.test", (10, unnamed.host))
    clear = world.domain("clear", policy("testing", "mx0.clear.test"))
    clear.tls = ""
    for peer in (forged, unnamed, clear):
        peer.extensions = CAREFUL
    for domain, words in (("forged", "certificate"), ("unnamed", "neither DNSSEC nor"), ("clear", "STARTTLS")):
        story = live.to(f"ann@{domain}.test", tls="require")
        event = story["events"][-1]["data"]
        assert (story["delivery"]["state"], event["failure"]) == ("bounced", "tls-unproven"), domain
        assert words in event["detail"]
    assert live.to("bob@forged.test")["delivery"]["state"] == "delivered", "whoever does not ask is not held up"
    assert [len(peer.messages) for peer in (forged, unnamed, clear)] == [1, 0, 0]


def test_without_need_of_tls_no_policy_holds_it_up(live: Live, world: World) -> None:
    forged = world.domain("strictforged", policy("enforce", "mx0.strictforged.test"), good=False)
    elsewhere = world.domain("elsewhere", policy("enforce", "mx.nowhere.test"))
    clear = world.domain("strictclear", policy("enforce", "mx0.strictclear.test"))
    clear.tls = ""
    for peer, name in ((forged, "strictforged"), (elsewhere, "elsewhere"), (clear, "strictclear")):
        held = live.message(f"bob@{name}.test", **{"from": ME})
        letter = b"TLS-Required: No\r\n" + LETTER
        assert live.wait_delivery(live.raw(letter, f"ann@{name}.test"))["delivery"]["state"] == "delivered", name
        wait_until(partial(live.events, delivery=held, kind="deferred"), what=live.output)
        assert [("ann@" in one.rcpt, one.tls) for one in peer.messages] == [(True, peer is not clear)]


def test_a_relay_that_is_another_mailfleet_keeps_the_promise(world: World, network: Network, tmp_path: Path) -> None:
    certificate, key = tmp_path / "relay.pem", tmp_path / "relay.key"
    leaf: trustme.LeafCert = AUTHORITY.issue_cert("relay.test")
    leaf.private_key_pem.write_to_path(str(key))
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(str(certificate), append=True)
    peer: Peer = world.domain("beyond", policy("enforce", "mx0.beyond.test"))
    peer.extensions = CAREFUL
    common = {"tls_ca_file": str(world.authority_file), "policy_port": world.port}
    address = network.address()
    network.publish("relay.test", "A", address)
    submission = {
        "listen": f"{address}:{network.port}",
        "tls_cert": str(certificate),
        "tls_key": str(key),
    }
    relay = Live(tmp_path / "relay", network, {"delivery": common, "submission": submission})
    first = Live(tmp_path / "first", network, {"delivery": common})
    letter = LETTER.replace(b"me@shop.test", b"me@inner.test")
    with relay:
        relay.add_domain("inner.test")
        user, password = relay.login
        with first:
            first.add_domain("inner.test")
            login = ["--username", user, "--password", password]
            for command in (
                ["relay", "add", "out", "relay.test", "--port", str(network.port), *login],
                ["pool", "set", "default", "--member", "out"],
            ):
                made = first.cli(*command)
                assert made.code == 0, made.err
            first.submit(letter, "me@inner.test", ["ann@beyond.test"], ["REQUIRETLS"])
            story = story_of(first, "ann@beyond.test")
            assert (story["delivery"]["state"], story["events"][-1]["data"]["source"]) == ("delivered", "out")
        assert story_of(relay, "ann@beyond.test")["delivery"]["state"] == "delivered"
    assert [one.mail for one in peer.messages if "REQUIRETLS" in one.mail]
