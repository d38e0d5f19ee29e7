"""A site that all delivery processes share: each delivers, and together they open no connection too many."""

from __future__ import annotations

import re

from mailfleet.store.sqlite import open_connection
from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.server import wait_until

CONNECTIONS = 5
SETTINGS = {"delivery": {"workers": 2, "connections_per_site": CONNECTIONS}}


def delivered_by_role(live: Live) -> dict[str, float]:
    """Delivery process -> what it has delivered so far."""
    page = live.http.get("/metrics").text
    lines = re.findall(r"^mailfleet_deliveries_total\{([^}]*)\} (\S+)", page, re.MULTILINE)
    found: dict[str, float] = {}
    for labels, count in lines:
        role = re.search(r'role="(deliver-\d)"', labels)
        if role and 'outcome="delivered"' in labels:
            found[role[1]] = found.get(role[1], 0) + float(count)
    return found


def test_limits_are_exact_over_processes(live: Live, network: Network) -> None:
    peer = network.peer()
    network.mail_domain("big.test", (10, peer.host))
    assert live.to("first@big.test")["delivery"]["state"] == "delivered"
    connection = open_connection(live.data / "mailfleet.db")
    connection.execute("UPDATE site SET shares = 2")  # as the owner says it when it cannot keep up
    connection.close()
    live.replace_delivery()  # they begin with their part
    wait_until(lambda: peer.open_now == 0, what=live.output)
    peer.most_open = 0
    many = [f"bob{number}@big.test" for number in range(1500)]
    view = live.wait_campaign(live.campaign(many, **{"from": "news@shop.test"})["campaign"])
    assert view["delivered"] == len(many)
    assert len(peer.messages) == len(many) + 1
    assert 1 < peer.most_open <= CONNECTIONS
    wait_until(lambda: sum(delivered_by_role(live).values()) >= len(many), what=live.output)
    assert all(count > 100 for count in delivered_by_role(live).values()), delivered_by_role(live)
