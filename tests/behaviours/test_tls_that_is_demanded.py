"""MTA-STS policies and a person's own demands are kept: mail waits rather than go to a host that cannot prove its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.peer import Peer, certified
from tests.behaviours.server import wait_until
from tests.ports import free_port

AUTHORITY = trustme.CA()


def policy(mode: str, *hosts: str, max_age_s: int = 86_400) -> str:
    return "\r\n".join(
        ["version: STSv1", f"mode: {mode}", *(f"mx: {one}" for one in hosts), f"max_age: {max_age_s}", ""]
    )


class World:
    """Mail hosts and policies; ``answers`` is what the web server says."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.port = network, free_port("127.0.0.1")
        self.answers: dict[str, tuple[int, str]] = {}
        self.authority_file = folder / "authority.pem"
        AUTHORITY.cert_pem.write_to_path(str(self.authority_file))

    def domain(
        self, name: str, text: str, *, status: int = 200, names: tuple[str, ...] = (), good: bool = True
    ) -> Peer:
        """The mail host of ``<name>.test`` with a certificate for ``names`` (its own), and its policy."""
        domain = f"{name}.test"
        host = f"mx0.{domain}"
        authority = AUTHORITY if good else trustme.CA()
        peer = self.network.peer(tls="good", names=names or (host,), authority=authority)
        self.network.mail_domain(domain, (10, peer.host))
        self.network.publish(f"_mta-sts.{domain}", "TXT", "v=STSv1; id=1;")
        web = self.network.web(self.port, self.answers, certified(AUTHORITY, f"mta-sts.{domain}"))
        self.network.publish(f"mta-sts.{domain}", "A", web)
        self.answers[f"mta-sts.{domain}"] = (status, text)
        return peer


@pytest.fixture
def world(network: Network, tmp_path: Path) -> World:
    return World(network, tmp_path)


@pytest.fixture
def live(network: Network, world: World, tmp_path: Path) -> Iterator[Live]:
    delivery: dict[str, Any] = {
        "tls_ca_file": str(world.authority_file),
        "policy_port": world.port,
        "tls_demands": {"demanded.test": "verified", "secret.test": "required"},
    }
    made = Live(tmp_path / "live", network, {"delivery": delivery})
    with made:
        made.add_domain("shop.test")
        yield made


def test_policies_are_kept(live: Live, world: World) -> None:
    good = world.domain("strict", policy("enforce", "mx0.strict.test"))
    wrong_name = world.domain("wrongname", policy("enforce", "mx0.wrongname.test"), names=("mx9.other.test",))
    forged = world.domain("forged", policy("enforce", "*.forged.test"), good=False)
    not_named = world.domain("notnamed", policy("enforce", "mx.elsewhere.test"))
    testing = world.domain("trying", policy("testing", "mx.elsewhere.test"), good=False)
    none = world.domain("nomode", policy("none"), good=False)
    broken = world.domain("broken", "<html>not a policy</html>", good=False)
    gone = world.domain("gone", "", status=404, good=False)

    story = live.to("bob@strict.test")
    assert story["delivery"]["state"] == "delivered"
    assert story["events"][-1]["data"]["tls"].endswith(" verified")
    for peer, domain in ((testing, "trying"), (none, "nomode"), (broken, "broken"), (gone, "gone")):
        assert live.to(f"bob@{domain}.test")["delivery"]["state"] == "delivered", domain
        assert peer.messages[0].tls, "opportunistic all the same"
    assert len(good.messages) == 1

    held = {
        name: live.message(f"bob@{name}.test", **{"from": "shop@shop.test"})
        for name in ("wrongname", "forged", "notnamed")
    }

    def said(name: str) -> str:
        events = live.get("/v1/events", delivery=held[name])["items"]
        return next((str(one["data"]) for one in events if one["kind"] == "deferred"), "")

    wait_until(lambda: all(said(name) for name in held), 60, live.output)
    assert "certificate" in said("wrongname")
    assert "certificate" in said("forged")
    assert "allows none of its mail hosts (mx0.notnamed.test)" in said("notnamed")
    assert not wrong_name.messages
    assert not forged.messages
    assert not not_named.messages


def test_a_persons_own_demands(live: Live, network: Network) -> None:
    forged = network.peer(tls="good", names=("mx0.demanded.test",))
    network.mail_domain("demanded.test", (10, forged.host))
    clear = network.peer()
    network.mail_domain("secret.test", (10, clear.host))
    other = network.peer()
    network.mail_domain("open.test", (10, other.host))
    for name in ("demanded.test", "secret.test"):
        live.message(f"bob@{name}", **{"from": "shop@shop.test"})
    assert live.to("bob@open.test")["delivery"]["state"] == "delivered"
    wait_until(lambda: len(live.events(kind="deferred")) >= 2, 60, live.output)
    words = " ".join(str(event["data"]) for event in live.events(kind="deferred"))
    assert "certificate" in words
    assert "STARTTLS" in words
    assert (forged.messages, clear.messages) == ([], [])
