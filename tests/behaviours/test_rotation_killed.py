"""The process that changes keys is killed at each step of two changes; mail sent meanwhile passes with what the zone holds."""

from __future__ import annotations

from collections.abc import Iterator
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
DAY_S = 3.0  # of this server; eight of them are longer than a delivery process remembers keys


@pytest.fixture
def server(tmp_path: Path, knot: Knot, network: Network) -> Iterator[Server]:
    delivery = {"remote_port": network.port, "ipv6": False, "time_scale": 86_400 / DAY_S, "workers": 1}
    with Server(tmp_path / "server", merged(settings(knot), {"delivery": delivery}), sandbox=False) as started:
        yield started


def records(knot: Knot) -> dict[str, str]:
    """The DKIM records in the zone: ``{name: value}``."""
    lines = [line.split(None, 3) for line in knot.everything("shop.test")]
    return {name: value.replace('" "', "").strip('"') for name, _, _, value in lines if "._domainkey." in name}


def test_killed_at_each_step(server: Server, knot: Knot, peer: Peer) -> None:
    allowed(server, knot)
    server.cli("domain", "add", "shop.test", "--publish")
    before = knot.everything("shop.test")

    def keys() -> dict[str, str]:
        return dict(server.rows("SELECT selector, stage FROM dkim_key"))

    def check_mail() -> None:
        seen = len(peer.messages)
        server.message("a@inbox.test", **{"from": "news@shop.test"})
        wait_until(lambda: len(peer.messages) > seen, what=server.output)
        zone = records(knot)
        assert dkim.verify(
            peer.messages[-1].data, dnsfunc=lambda name, timeout=5: zone.get(name.decode(), "").encode()
        ), zone

    changed = {"rotate_days": 4}
    now = server.get("/v1/domains/shop.test/settings")
    server.http.put("/v1/domains/shop.test/settings", json=now | changed).raise_for_status()
    (first,) = keys()
    for begun in (1, 2):
        known = set(keys())
        wait_until(lambda: set(keys()) - known, what=server.output)  # noqa: B023  # used at once
        server.kill("jobs")
        (new,) = set(keys()) - known
        wait_until(lambda: any(name.startswith(f"{new}.") for name in records(knot)), what=server.output)  # noqa: B023
        if begun == 2:  # a role that ends again and again is started later each time
            server.kill("jobs")
        check_mail()
        wait_until(lambda: keys().get(new) == "active", what=server.output)  # noqa: B023
        if begun == 1:
            server.kill("jobs")
        check_mail()
        if begun == 2:
            server.http.put("/v1/domains/shop.test/settings", json=now).raise_for_status()
    wait_until(lambda: first not in keys(), what=server.output)
    server.kill("jobs")
    check_mail()
    wait_until(lambda: list(keys().values()) == ["active"], what=server.output)
    server.kill("jobs")
    wait_until(lambda: len(records(knot)) == 1, what=server.output)
    check_mail()
    (last,) = keys()
    assert list(records(knot)) == [f"{last}._domainkey.shop.test."]
    assert len(knot.everything("shop.test")) == len(before), "nothing is left over"
