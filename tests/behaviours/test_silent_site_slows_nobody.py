"""One mail host takes connections and says nothing, another drips: everybody else's mail is there while they still wait."""

from __future__ import annotations

from collections import Counter

from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.server import wait_until

SETTINGS = {"delivery": {"connections_per_site": 2}}
SITES = 30


def test_a_silent_site_slows_nobody(live: Live, network: Network) -> None:
    silent = network.peer(greeting="")
    network.mail_domain("silent.test", (10, silent.host))
    unanswered = network.peer(answer=lambda verb, line: "" if verb == "MESSAGE" else None)
    network.mail_domain("unanswered.test", (10, unanswered.host))
    well = [network.peer() for _ in range(SITES)]
    for number, peer in enumerate(well):
        network.mail_domain(f"well{number}.test", (10, peer.host))
    people = [f"ann{number}@silent.test" for number in range(200)]
    people += [f"ann{number}@unanswered.test" for number in range(200)]
    people += [f"ann{number}@well{number % SITES}.test" for number in range(600)]
    campaign = live.campaign(people, **{"from": "news@shop.test"})["campaign"]

    wait_until(lambda: live.get(f"/v1/campaigns/{campaign}")["delivered"] == 600, what=live.output)
    states = Counter((row["recipient"].partition("@")[2][:4], row["state"]) for row in live.deliveries(campaign))
    assert states["well", "delivered"] == 600
    assert {state for site, state in states if site != "well"} <= {"queued", "leased"}
    assert silent.sessions
    assert len(silent.sessions) <= 2
    assert not live.events(campaign=campaign, kind="deferred")
    # And mail that comes now finds its way as well
    assert live.to("bob@well0.test")["delivery"]["state"] == "delivered"
    live.kill_supervisor()  # what waits for an answer would have its full time to end
