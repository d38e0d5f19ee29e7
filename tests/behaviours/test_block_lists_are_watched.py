"""A running server asks a block list about its sources by itself, and rests one that is listed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.server import wait_until

LIST = """
[[list]]
name = "our-list"
label = "A list of our own"
zone = "bl.test"
kind = "ip"
action = "rest"
private = true
"""


def test_a_listed_source_rests(network: Network, tmp_path: Path) -> None:
    network.publish("2.0.0.127.bl.test", "A", "127.0.0.2")  # what a list must hold, or it is not believed
    network.publish("1.79.0.127.bl.test", "A", "127.0.0.2")
    network.publish("1.79.0.127.bl.test", "TXT", "seen in a trap")
    (tmp_path / "lists.toml").write_text(LIST, "utf-8")
    settings = {"blocklists": {"file": str(tmp_path / "lists.toml")}}
    with contextlib.ExitStack() as closing:
        live = Live(tmp_path / "live", network, settings)
        closing.enter_context(live)
        live.add_domain("shop.test")
        for number in (1, 2):
            live.post("/v1/sources", {"name": f"s{number}", "address": f"127.0.79.{number}"})
        members = [{"name": "s1", "weight": 1}, {"name": "s2", "weight": 1}]
        live.http.patch("/v1/pools/default", json={"members": members}).raise_for_status()
        wait_until(lambda: live.get("/v1/brakes")["items"], 90, live.output)
        (brake,) = live.get("/v1/brakes")["items"]
        assert (brake["source"], brake["origin"], brake["share"]) == ("s1", "blocklist", 0)
        assert live.get("/v1/blocklists")["items"][0]["believed"] == "yes"
        (incident,) = live.get("/v1/incidents")["items"]
        assert (incident["target"], incident["state"], incident["words"]) == ("127.0.79.1", "open", "seen in a trap")

        peer = network.peer()
        network.mail_domain("someone.test", (10, peer.host))
        view = live.wait_campaign(
            live.campaign([f"u{n}@someone.test" for n in range(10)], **{"from": "n@shop.test"})["campaign"]
        )
        assert view["delivered"] == 10
        assert {session.client for session in peer.sessions} == {"127.0.79.2"}
