"""A list that bounces and mail that people complain of are held back, urgent mail is not, and each says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from tests.behaviours.server import Server, wait_until


def test_a_bad_list_is_stopped_and_the_rest_is_not(serve: Callable[..., Server]) -> None:
    server = serve({"delivery": {"connections_per_site": 1}}).start()
    people = [f"{'unknown' if number % 3 == 0 else 'ok'}-{number}@gmail.com" for number in range(90)]
    campaign = server.campaign(people)["campaign"]
    server.wait_campaign(campaign)
    server.change(
        "reputation", "brakes", True
    )  # not before: it would be looked at in the middle of the list, if one is unlucky
    server.restart()
    wait_until(lambda: server.get("/v1/brakes")["items"], 90, server.output)
    brakes = server.get("/v1/brakes")["items"]
    assert {one["rule"] for one in brakes} == {"bounces-stop"}
    assert {one["stream"] for one in brakes} | {one["campaign"] for one in brakes} >= {"bulk", campaign}
    assert "30 bounced of 90 deliveries in 24 hours: 33.33 %" in brakes[0]["reason"]

    held = server.campaign(["ok-later@gmail.com"])["campaign"]
    assert server.wait_delivery(server.message("ok-reset@gmail.com"))["delivery"]["state"] == "delivered"
    assert server.get(f"/v1/campaigns/{held}")["delivered"] == 0, "bulk waits, urgent mail does not"
    for one in brakes:
        answer = server.http.delete(f"/v1/brakes/{one['brake']}", params={"reason": "the list was cleaned"})
        assert answer.json()["ended_why"] == "lifted by this machine: the list was cleaned"
    assert server.wait_campaign(held)["delivered"] == 1

    (row,) = server.get("/v1/reputation", by="campaign,provider")["items"][:1]
    assert row["of"] == {"campaign": campaign, "provider": "gmail"}
    assert (row["delivered"], row["bounced"], row["classes"]) == (60, 30, {"unknown-user": 30})


def test_a_complaint_counts_once_and_suppresses(serve: Callable[..., Server]) -> None:
    server = serve().start()
    campaign = server.campaign([f"ok-{number}@yahoo.com" for number in range(5)])["campaign"]
    server.wait_campaign(campaign)
    first = server.deliveries(campaign)[0]
    for _ in range(2):
        answer = server.post("/v1/complaints", {"delivery": first["delivery"], "origin": "a feedback loop"})
        assert answer["address"] == first["recipient"]
    (row,) = server.get("/v1/reputation", by="provider,domain")["items"]
    assert row["of"] == {"provider": "yahoo", "domain": "shop.example"}
    assert (row["complaints"], row["complaint_share"]) == (1, 20.0)
    assert [one["address"] for one in server.get("/v1/suppressions")["items"]] == [first["recipient"]]
    assert [one["data"]["origin"] for one in server.events(kind="complained")] == ["a feedback loop"]
    ran = server.cli("reputation", "show", "--by", "stream,source")
    assert ran.code == 0
    assert "bulk" in ran.out
    missing = server.http.post("/v1/complaints", json={"delivery": "dlv_0000000000007"})
    assert missing.status_code == 404
    wrong = server.http.get("/v1/reputation", params={"by": "colour"})
    assert wrong.status_code == 422


def test_what_providers_tell_puts_brakes_on(serve: Callable[..., Server]) -> None:
    server = serve().start()
    server.post("/v1/sources", {"name": "s1", "address": "127.0.0.11"})
    today = datetime.now(UTC)
    stats = {"name": f"domains/shop.example/trafficStats/{today:%Y%m%d}", "userReportedSpamRatio": 0.004}
    (server.folder / "p.json").write_text(json.dumps({"trafficStats": [stats]}))
    line = f"127.0.0.11,{today:%m/%d/%Y} 12:00 AM,{today:%m/%d/%Y} 11:59 PM,9,9,9,RED,0.9%,,,0,x,,"
    (server.folder / "s.csv").write_text(line)
    assert server.cli("reputation", "import", "postmaster", "p.json").code == 0
    assert server.cli("reputation", "import", "snds", "s.csv").code == 0
    brakes = {one["rule"]: one for one in server.get("/v1/brakes")["items"]}
    assert (brakes["postmaster-complaints-stop"]["stream"], brakes["postmaster-complaints-stop"]["provider"]) == (
        "bulk",
        "gmail",
    )
    assert (brakes["snds-red"]["source"], brakes["snds-red"]["provider"]) == ("s1", "outlook")
    told = {(one["origin"], one["subject"]) for one in server.get("/v1/reputation/imports")["items"]}
    assert told == {("postmaster", "shop.example"), ("snds", "127.0.0.11")}
    ran = server.cli("reputation", "import", "snds", "p.json")
    assert ran.code == 1
    assert "line 1" in ran.err
