"""Tokens, scopes, errors, listings, management, the OpenAPI document and its reference page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI


async def test_no_token_a_wrong_one_and_one_without_the_scope(http: httpx.AsyncClient) -> None:
    none = await http.get("/v1/queue", headers={"Authorization": ""})
    wrong = await http.get("/v1/queue", headers={"Authorization": "Bearer nope"})
    basic = await http.get("/v1/queue", headers={"Authorization": "Basic YWxs"})
    lacking = await http.get("/v1/queue", headers={"Authorization": "Bearer sender"})
    assert [answer.status_code for answer in (none, wrong, basic, lacking)] == [401, 401, 401, 403]
    assert none.headers["www-authenticate"].startswith("Bearer")
    assert "read" in lacking.json()["detail"]
    assert (await http.get("/v1/queue", headers={"Authorization": "Bearer reader"})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/domains"),
        ("DELETE", "/v1/domains/x"),
        ("GET", "/v1/credentials"),
        ("GET", "/v1/tokens"),
        ("POST", "/v1/tokens"),
        ("POST", "/v1/suppressions"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/campaigns"),
        ("POST", "/v1/campaigns/x/cancel"),
    ],
)
async def test_reading_is_all_that_a_reader_may_do(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path, headers={"Authorization": "Bearer reader"}, json={})
    assert answer.status_code == 403


async def test_unknown_paths_and_methods_are_problems_too(http: httpx.AsyncClient) -> None:
    missing = await http.get("/v1/nothing")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert set(missing.json()) == {"type", "title", "status", "detail", "where", "mend", "problems"}
    wrong = await http.put("/v1/campaigns")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")
    assert (await http.get("/v1/campaigns/")).status_code == 404


async def test_campaigns_are_listed_seen_and_steered(http: httpx.AsyncClient, engine: Any, memory: Any) -> None:
    for number in range(3):
        engine.campaigns[f"cmp_{number}"] = memory.view_of(f"cmp_{number}")
    page = (await http.get("/v1/campaigns", params={"limit": 2})).json()
    assert [item["campaign"] for item in page["items"]] == ["cmp_2", "cmp_1"]
    rest = (await http.get("/v1/campaigns", params={"after": page["next"]})).json()
    assert ([item["campaign"] for item in rest["items"]], rest["next"]) == (["cmp_0"], None)
    assert (await http.get("/v1/campaigns/cmp_1")).json()["delivered"] == 6600
    paused = await http.post("/v1/campaigns/cmp_1/pause", json={"reason": "typo"})
    assert (paused.json()["state"], paused.json()["pause_reason"]) == ("paused", "typo")
    assert (await http.post("/v1/campaigns/cmp_1/resume")).json()["state"] == "sending"
    assert (await http.post("/v1/campaigns/cmp_1/pause")).json()["state"] == "paused"
    assert (await http.post("/v1/campaigns/cmp_1/cancel")).json()["state"] == "cancelled"
    assert (await http.post("/v1/campaigns/cmp_1/resume")).status_code == 409
    assert (await http.get("/v1/campaigns/cmp_9")).status_code == 404
    assert (await http.get("/v1/campaigns/cmp_9/deliveries")).status_code == 404


async def test_deliveries_trace_and_queue(http: httpx.AsyncClient, engine: Any, memory: Any) -> None:
    engine.delivery_log.append(memory.delivery())
    engine.happen("bounced", reply="550 5.1.1 No such user")
    assert len((await http.get("/v1/deliveries", params={"state": "bounced"})).json()["items"]) == 1
    assert (await http.get("/v1/deliveries", params={"state": "lost"})).status_code == 422
    assert (await http.get("/v1/deliveries/dlv_1")).json()["events"][0]["data"]["reply"] == "550 5.1.1 No such user"
    assert (await http.get("/v1/deliveries/dlv_2")).status_code == 404
    assert len((await http.get("/v1/trace", params={"what": "ann@gmail.example"})).json()["items"]) == 1
    assert (await http.get("/v1/trace", params={"what": "nobody"})).json() == {"items": []}
    assert (await http.get("/v1/queue")).json()["sites"] == []


async def test_events_by_page_by_kind_and_from_the_end(http: httpx.AsyncClient, engine: Any) -> None:
    for number in range(5):
        engine.happen("delivered" if number % 2 else "queued")
    page = (await http.get("/v1/events", params={"limit": 2})).json()
    assert ([item["id"] for item in page["items"]], page["next"]) == ([1, 2], "2")
    delivered = (await http.get("/v1/events", params={"kind": ["delivered", "bounced"]})).json()
    assert [item["id"] for item in delivered["items"]] == [2, 4]
    tail = (await http.get("/v1/events", params={"tail": "true", "limit": 2})).json()
    assert [item["id"] for item in tail["items"]] == [4, 5]
    assert (await http.get("/v1/events", params={"after": -1})).status_code == 422


async def test_events_are_followed_as_they_happen(
    app: FastAPI, engine: Any, serve: Callable[[FastAPI], Awaitable[int]]
) -> None:
    port = await serve(app)
    engine.happen("queued")
    seen: list[int] = []
    async with (
        httpx.AsyncClient(headers={"Authorization": "Bearer all"}) as client,
        client.stream("GET", f"http://127.0.0.1:{port}/v1/events", params={"follow": "true"}) as answer,
    ):
        assert answer.headers["content-type"] == "application/x-ndjson"
        async for line in answer.aiter_lines():
            if line:
                seen.append(orjson.loads(line)["id"])
                if len(seen) == 3:
                    break
                engine.happen("delivered")
                await asyncio.sleep(0)
    assert seen == [1, 2, 3]


async def test_domains_credentials_tokens_and_suppressions(http: httpx.AsyncClient) -> None:
    made = await http.post("/v1/domains", json={"domain": "shop.example", "ed25519": True})
    assert (made.status_code, made.json()["records"][0]["type"]) == (201, "TXT")
    assert (await http.post("/v1/domains", json={"domain": "shop.example"})).status_code == 409
    assert (await http.get("/v1/domains/shop.example")).status_code == 200
    assert (await http.delete("/v1/domains/shop.example")).status_code == 204
    assert (await http.get("/v1/domains")).json() == {"items": []}

    login = (await http.post("/v1/credentials", json={"username": "web"})).json()
    assert login["password"] == "once"
    assert (await http.get("/v1/credentials")).json()["items"][0]["password"] is None
    assert (await http.delete(f"/v1/credentials/{login['credential']}")).status_code == 204
    assert (await http.delete(f"/v1/credentials/{login['credential']}")).status_code == 404

    token = (await http.post("/v1/tokens", json={"name": "x", "scopes": ["read", "read"]})).json()
    assert token["scopes"] == ["read"]
    assert (await http.get("/v1/queue", headers={"Authorization": f"Bearer {token['secret']}"})).status_code == 200
    assert (await http.post("/v1/tokens", json={"name": "x", "scopes": ["root"]})).status_code == 422
    assert (await http.delete(f"/v1/tokens/{token['token']}")).status_code == 204
    assert (await http.get("/v1/queue", headers={"Authorization": f"Bearer {token['secret']}"})).status_code == 401

    assert (await http.post("/v1/suppressions", json={"address": "a+b@x.example"})).status_code == 201
    assert (await http.get("/v1/suppressions")).json()["items"][0]["address"] == "a+b@x.example"
    assert (await http.delete("/v1/suppressions", params={"address": "a+b@x.example"})).status_code == 204
    assert (await http.delete("/v1/suppressions", params={"address": "a+b@x.example"})).status_code == 404


async def test_health_needs_no_token(http: httpx.AsyncClient, engine: Any) -> None:
    anonymous = {"Authorization": ""}
    assert (await http.get("/health/live", headers=anonymous)).json() == {"status": "ok"}
    assert (await http.get("/health/ready", headers=anonymous)).json()["sandbox"] is True
    engine.healthy = engine.healthy.model_copy(update={"ok": False, "reason": "the disk is nearly full"})
    down = await http.get("/health/ready", headers=anonymous)
    assert (down.status_code, down.json()["detail"]) == (503, "the disk is nearly full")


async def test_every_operation_is_described_and_every_reference_resolves(http: httpx.AsyncClient) -> None:
    document = (await http.get("/v1/openapi.json", headers={"Authorization": ""})).json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            if path.startswith("/v1"):
                assert operation["security"][0]["token"] in (["read"], ["send"], ["manage"])
                assert "application/problem+json" in operation["responses"]["422"]["content"]
    schemas = document["components"]["schemas"]
    for reference in re.findall(r'"#/components/schemas/(\w+)"', orjson.dumps(document).decode()):
        assert reference in schemas


async def test_the_reference_page_is_whole_by_itself(http: httpx.AsyncClient) -> None:
    page = await http.get("/v1/docs", headers={"Authorization": ""})
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.text)
    assert "<script" not in page.text
    ids = set(re.findall(r'id="([^"]+)"', page.text))
    assert set(re.findall(r'href="#([^"]+)"', page.text)) <= ids
    assert {"problem-busy", "send_campaign", "schema-CampaignView"} <= ids
    style = await http.get("/v1/docs.css")
    assert style.headers["content-type"].startswith("text/css")
