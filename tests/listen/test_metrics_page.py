"""One page of many roles: what dead ones counted stays, what they held is gone; routes are told by their templates."""

from __future__ import annotations

import math
from typing import Any

import httpx
from fastapi import FastAPI

from mailfleet.base.gauges import Series
from mailfleet.config.settings import Server, Settings
from mailfleet.engine.snapshots import Snapshot
from mailfleet.listen.http import create_app
from mailfleet.listen.metrics import exposition


def lines(page: bytes | str) -> dict[str, float]:
    """Series -> value, comments left out."""
    text = page.decode() if isinstance(page, bytes) else page
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_roles_are_told_apart_and_the_dead_hold_nothing() -> None:
    alive = Snapshot(
        "deliver-0",
        (
            Series("deliveries_total", ("delivered", "gmail"), 7),
            Series("held_deliveries", (), 3),
            Series("attempt_seconds", ("gmail",), 0.75, (1, 2), (0.5,)),
        ),
        0.5,
    )
    dead = Snapshot(
        "deliver-1", (Series("deliveries_total", ("delivered", "gmail"), 5), Series("held_deliveries", (), 9)), 60
    )
    found = lines(exposition([alive, dead, Snapshot("jobs", (), math.inf)])[0])
    del found['mailfleet_build_info{version="0.1.0"}']
    assert found == {
        'mailfleet_role_up{role="deliver-0"}': 1,
        'mailfleet_role_up{role="deliver-1"}': 0,
        'mailfleet_role_up{role="jobs"}': 0,
        'mailfleet_deliveries_total{outcome="delivered",provider="gmail",role="deliver-0"}': 7,
        'mailfleet_deliveries_total{outcome="delivered",provider="gmail",role="deliver-1"}': 5,
        'mailfleet_held_deliveries{role="deliver-0"}': 3,
        'mailfleet_attempt_seconds_bucket{le="0.5",provider="gmail",role="deliver-0"}': 1,
        'mailfleet_attempt_seconds_bucket{le="+Inf",provider="gmail",role="deliver-0"}': 3,
        'mailfleet_attempt_seconds_count{provider="gmail",role="deliver-0"}': 3,
        'mailfleet_attempt_seconds_sum{provider="gmail",role="deliver-0"}': 0.75,
    }


def test_what_another_version_wrote_does_not_spoil_the_page() -> None:
    odd = (Series("unheard_of_total", (), 7), Series("deliveries_total", ("delivered",), 5))
    assert len(lines(exposition([Snapshot("front", odd, 0)])[0])) == 2


async def test_requests_are_counted_by_the_template_of_their_route(http: httpx.AsyncClient, engine: Any) -> None:
    for path in ("/v1/campaigns/cmp_1", "/v1/campaigns/cmp_2", "/v1/domains/secret.example", "/nothing/here?q=secret"):
        await http.get(path)
    await http.get("/v1/queue", headers={"Authorization": ""})
    await http.put("/v1/campaigns")
    await http.request("SECRET", "/v1/queue")
    page = (await http.get("/metrics")).text
    assert "secret" not in page.lower()
    counted = {name: value for name, value in lines(page).items() if name.startswith("mailfleet_http_requests_total")}
    assert counted == {
        f'mailfleet_http_requests_total{{method="{method}",role="front",route="{route}",status="{status}"}}': value
        for method, route, status, value in [
            ("GET", "/v1/campaigns/{campaign}", 404, 2),
            ("GET", "/v1/domains/{domain}", 404, 1),
            ("GET", "unmatched", 404, 1),
            ("GET", "/v1/queue", 401, 1),
            ("PUT", "/v1/campaigns", 405, 1),
            ("other", "/v1/queue", 405, 1),
        ]
    }


async def test_a_bug_is_counted_as_500(app: FastAPI, http: httpx.AsyncClient) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a bug")

    assert (await http.get("/broken")).status_code == 500
    page = lines((await http.get("/metrics")).text)
    assert page['mailfleet_http_requests_total{method="GET",role="front",route="/broken",status="500"}'] == 1


async def test_who_may_read_it(http: httpx.AsyncClient, engine: Any) -> None:
    asked = [
        await http.get("/metrics", headers={"Authorization": bearer}) for bearer in ("", "Bearer no", "Bearer sender")
    ]
    assert [answer.status_code for answer in asked] == [401, 401, 403]
    opened = create_app(engine.services(), Settings(server=Server(metrics_open=True)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=opened), base_url="http://mail.example") as anybody:
        assert (await anybody.get("/metrics")).status_code == 200
        assert (await anybody.get("/v1/queue")).status_code == 401
