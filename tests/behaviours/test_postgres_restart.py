"""The database server dies in the middle of a campaign, as with the power, and comes back: nothing is lost, repeats are told."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from mailfleet.sandbox import journal
from tests.behaviours.server import Server, wait_until
from tests.behaviours.test_killed_at_random_moments import (
    check_accounts,
    check_nothing_is_left_open,
    progress,
    who_may_have_had_it_twice,
)
from tests.behaviours.test_postgres_campaign import DOMAINS, MANNERS
from tests.store.cluster import Cluster

RECIPIENTS = 2000
OUTAGES = 3


@pytest.mark.timeout(240)
def test_the_server_dies_and_comes_back(serve: Callable[..., Server], cluster: Cluster) -> None:
    settings = {
        "database": {"url": cluster.create("restart")},
        "sandbox": {"time_scale": 2880},
        "delivery": {"connections_per_site": 3},
    }
    server = serve(settings).start()
    pids = server.pids()
    rng = random.Random(5)
    people = [f"{rng.choice(MANNERS)}-{number}@{rng.choice(DOMAINS)}" for number in range(RECIPIENTS)]
    campaign = server.campaign([{"email": one, "name": one[:4]} for one in people])["campaign"]
    for number in range(OUTAGES):
        due = (number + 0.5) * RECIPIENTS / (OUTAGES + 1)
        wait_until(lambda due=due: progress(server, campaign) >= due, 120, server.output)  # type: ignore[misc]
        cluster.stop("immediate")
        answer = server.http.get(f"/v1/campaigns/{campaign}")
        assert answer.status_code == 429, "the entrance says: later"
        assert int(answer.headers["Retry-After"]) > 0
        cluster.start()
    view = server.wait_campaign(campaign, 120)
    assert {role: pid for role, pid in server.pids().items() if role != "jobs"} == {
        role: pid for role, pid in pids.items() if role != "jobs"
    }, f"the roles sit it out\n{server.output()}"
    check_accounts(server, campaign, view, people)
    repeats = {one.message_id for _, one in journal.read(server.data) if one.accepted and one.repeat}
    on_wire, cut_off = who_may_have_had_it_twice(server, campaign)
    assert repeats <= on_wire | cut_off
    check_nothing_is_left_open(server)
