"""Eight sources and six sites of the sandbox's providers, two delivery processes: what each provider saw from which address."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import pytest

from mailfleet.sandbox import journal
from mailfleet.sandbox.journal import Decision
from tests.behaviours.server import Server, wait_until

# Six sites of four providers: two of Gmail, two of Outlook, Yahoo, and a small one
DOMAINS = ("gmail.com", "workspace.example", "outlook.com", "office.example", "yahoo.com", "corner.example")
DAY_MS = 86_400_000
FIRST_CAPS = (100, 200, 400, 800, 1600, 3200, 6400)


def accepted(server: Server) -> Iterator[Decision]:
    return (one for _, one in journal.read(server.data) if one.accepted)


def fleet(server: Server, weights: dict[str, int]) -> dict[str, str]:
    """Sources in the default pool; ``address -> name``."""
    names = {}
    for number, (name, weight) in enumerate(weights.items(), start=1):
        address = f"127.0.77.{number}"
        server.post("/v1/sources", {"name": name, "address": address, "ehlo_name": f"{name}.shop.example"})
        names[address] = name
        assert weight
    members = [{"name": name, "weight": weight} for name, weight in weights.items()]
    answer = server.http.patch("/v1/pools/default", json={"members": members})
    assert answer.is_success, answer.text
    return names


@pytest.mark.timeout(340)
def test_shares_rates_and_a_pause(serve: Callable[..., Server]) -> None:
    # Eight sources with two connections each to both sites of Outlook would be more than it takes, and it puts off for two minutes.
    retry = {"bulk": {"first_delay_s": 1, "max_delay_s": 2}}
    server = serve({"sandbox": {"time_scale": 1}, "retry": retry}).start()
    weights = {f"s{number}": 1 + number % 2 for number in range(1, 9)}
    names = fleet(server, weights)
    for name in weights:
        assert server.http.patch(f"/v1/sources/{name}", json={"limits": {"rate": "10/s", "connections": 1}}).is_success
    people = [f"ok-{number}@{domain}" for number in range(160) for domain in DOMAINS]
    view = server.wait_campaign(server.campaign(people)["campaign"], 300)
    assert view["delivered"] == len(people)
    seen = list(accepted(server))
    assert len(seen) == len(people)
    by_source = Counter(names[one.client] for one in seen)
    for name, weight in weights.items():
        assert abs(by_source[name] / len(people) - weight / sum(weights.values())) < 0.05, by_source
    times: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in seen:
        times[one.client, one.recipient.partition("@")[2]].append(one.at_ms)
    for place, instants in times.items():
        for index, first in enumerate(instants):
            within = sum(1 for at_ms in instants[index:] if at_ms < first + 1000)
            assert within <= 10, f"{place} saw {within} in a second"

    before = len(seen)
    answer = server.http.put("/v1/sources/s1/state", json={"state": "paused", "reason": "moved to another rack"})
    assert answer.json()["state"] == "paused"
    view = server.wait_campaign(server.campaign([f"ok-b{number}@gmail.com" for number in range(60)])["campaign"])
    assert view["delivered"] == 60
    assert "s1" not in {names[one.client] for one in list(accepted(server))[before:]}
    told = [event["data"] for event in server.events(kind="egress_changed")]
    assert told[-1] == {"name": "s1", "change": "paused", "reason": "moved to another rack", "by": "this machine"}


@pytest.mark.timeout(240)
def test_caps_hold_over_days_and_kills(serve: Callable[..., Server]) -> None:
    """A day of the sandbox is a minute. Nothing leaves twice what a day may hold, whoever dies."""
    server = serve({"sandbox": {"time_scale": 2880}}).start()
    names = fleet(server, {"s1": 1, "s2": 1})
    for name in names.values():
        server.post("/v1/warmups", {"source": name, "plan": "standard"})
    people = [f"ok-{number}@{domain}" for number in range(600) for domain in DOMAINS]
    campaign = server.campaign(people)["campaign"]
    wait_until(lambda: server.get(f"/v1/campaigns/{campaign}")["delivered"] >= 100, 90, server.output)
    for role in ("deliver-0", "deliver-1", "deliver-0"):
        server.kill(role)
        time.sleep(3)
    server.wait_campaign(campaign, 200)
    seen: Counter[tuple[str, str, int]] = Counter()
    for one in accepted(server):
        seen[names[one.client], one.provider, one.at_ms * 2880 // DAY_MS] += 1
    caps = {}
    for name in names.values():
        for day in server.get(f"/v1/warmups/{name}/history")["items"]:
            caps[name, day["provider"], day["day"]] = day["cap"]
        for pair in server.get("/v1/warmups", source=name)["items"]:
            assert pair["under_way"] == 0, "nothing is reserved for ever"
    first = {
        (name, provider): min(day for n, p, day in seen if (n, p) == (name, provider)) for name, provider, _ in seen
    }
    for (name, provider, day), count in seen.items():
        stage = day - first[name, provider]
        assert count <= FIRST_CAPS[min(stage, len(FIRST_CAPS) - 1)], f"{name} to {provider}, day {day}: {count}"
    assert any(96 <= count <= 100 for count in seen.values()), (
        "and a day holds all that it may, or lacks what its last hour had"
    )


def test_a_blocked_source_is_rerouted_and_comes_back_in_steps(serve: Callable[..., Server]) -> None:
    server = serve({"sandbox": {"time_scale": 86_400}}).start()
    fleet(server, {"s1": 1, "s2": 1})
    server.post(
        "/v1/brakes", {"action": "rest", "reason": "a listing", "source": "s1", "provider": "gmail", "for_s": 1}
    )
    view = server.wait_campaign(server.campaign([f"ok-{number}@gmail.com" for number in range(50)])["campaign"])
    assert view["delivered"] == 50
    wait_until(lambda: not server.get("/v1/brakes")["items"], 60, server.output)
    (ended,) = server.get("/v1/brakes", ended="true")["items"]
    assert "step by step" in ended["ended_why"]
    shares = [event["data"]["permille"] for event in server.events(kind="brake_on")]
    assert shares == [0, 100, 250, 500, 750]
    ran = server.cli("tenant", "set", "--rate", "100/s")
    assert (ran.code, ran.out) == (0, "default sends through default, 100/s.\n")
    assert server.get("/v1/tenant") == {"name": "default", "pool": "default", "rates": "100/s"}
    members = server.cli("pool", "set", "default", "--add", "default=4", "--json").last["members"]
    assert {one["name"]: one["weight"] for one in members} == {"s1": 1, "s2": 1, "default": 4}
    members = server.cli("pool", "set", "default", "--drop", "default", "--json").last["members"]
    assert [one["name"] for one in members] == ["s1", "s2"]
    assert server.cli("pool", "set", "default", "--drop", "default").code == 1
    refused = server.http.post("/v1/brakes", json={"action": "rest", "reason": "x"})
    assert refused.status_code == 422
    assert refused.json()["where"] == "source"


def test_a_relay_takes_mail_with_login_and_tls(serve: Callable[..., Server]) -> None:
    upstream = serve(folder="upstream").start()
    login = upstream.post("/v1/credentials", {"username": "from-below", "stream": "bulk"})
    server = serve(folder="below").start()
    host, port = upstream.setting("submission", "listen").rsplit(":", 1)
    body = {"name": "up", "host": host, "port": int(port), "tls": "required", "username": "from-below"}
    view = server.post("/v1/relays", {**body, "password": login["password"], "limits": {"connections": 3}})
    assert "password" not in view
    assert login["password"] not in server.output()
    tried = server.cli("relay", "check", "up", "--json")
    assert (tried.code, tried.last["ok"], tried.last["tls"][:5]) == (0, True, "TLSv1"), tried.err
    assert login["password"] not in tried.out
    server.http.patch("/v1/pools/default", json={"members": [{"name": "up", "weight": 1}]}).raise_for_status()
    people = [f"ok-{number}@{domain}" for number in range(30) for domain in DOMAINS]
    view = server.wait_campaign(server.campaign(people)["campaign"])
    assert view["delivered"] == len(people)
    assert not list(accepted(server)), "nothing went past the relay"
    wait_until(lambda: len(list(accepted(upstream))) == len(people), 60, upstream.output)
    event = server.events(kind="delivered")[-1]
    assert event["data"]["source"] == "up"
    assert event["data"]["tls"].startswith("TLSv1")


def test_a_relay_that_refuses_the_login_loses_no_mail(serve: Callable[..., Server]) -> None:
    upstream = serve(folder="upstream").start()
    server = serve(folder="below").start()
    host, port = upstream.setting("submission", "listen").rsplit(":", 1)
    body = {"name": "up", "host": host, "port": int(port), "tls": "required", "username": "x", "password": "wrong-word"}
    server.post("/v1/relays", body)
    server.http.patch("/v1/pools/default", json={"members": [{"name": "up", "weight": 1}]}).raise_for_status()
    tried = server.cli("relay", "check", "up")
    assert tried.code == 1
    assert "auth: the login was refused: 535" in tried.err
    assert "mend: correct user name and password: mailfleet relay change up" in tried.err
    delivery = server.message("ok-one@gmail.com")
    wait_until(lambda: server.events(kind="deferred"), 60, server.output)
    data = server.events(kind="deferred")[-1]["data"]
    assert (data["phase"], data["failure"]) == ("auth", "login")
    assert "the login was refused: 535" in data["detail"]
    assert "wrong-word" not in str(server.events()) + server.output()
    server.http.patch("/v1/pools/default", json={"members": [{"name": "default", "weight": 1}]}).raise_for_status()
    assert server.wait_delivery(delivery)["delivery"]["state"] == "delivered"


def test_a_model_of_providers_decides_what_a_source_may_send(serve: Callable[..., Server]) -> None:
    """The same model that a rehearsal plays, in real time: a stranger's first day holds some hundreds, and the rest is deferred."""
    server = serve({"sandbox": {"time_scale": 1440, "model": "strict"}, "delivery": {"shaping": True}}).start()
    fleet(server, {"s1": 1})
    server.campaign([f"ok-{number}@yahoo.com" for number in range(400)])
    wait_until(lambda: server.events(kind="brake_on"), 60, server.output)
    taken = sum(1 for _ in accepted(server))
    assert 0 < taken <= 150
    (brake, *_) = server.events(kind="brake_on")
    assert (brake["data"]["provider"], brake["data"]["rule"]) == ("yahoo", "yahoo-temporarily-deferred")
    assert "[TSS04]" in brake["data"]["words"]
