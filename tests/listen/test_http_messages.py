"""``POST /v1/messages``: what the engine is handed, and what wrong input is told."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

GOOD = {"from": "Shop <news@shop.example>", "to": ["ann@gmail.example"], "subject": "Hi", "text": "Hello"}


async def test_a_structured_message_reaches_the_engine_whole(http: httpx.AsyncClient, engine: Any) -> None:
    body = GOOD | {
        "cc": "bob@outlook.example",
        "html": "<p>Hello {{ name }}</p><img src='cid:logo'>",
        "headers": {"X-Order": "7", "X-Many": ["a", "b"]},
        "attachments": [
            {
                "filename": "a.png",
                "content_type": "image/png",
                "content": base64.b64encode(b"\x89PNG").decode(),
                "content_id": "logo",
            }
        ],
        "tags": ["order"],
        "metadata": {"order": "7"},
        "fields": {"name": "Ann"},
        "send_at": "2026-01-31T10:00:00+01:00",
        "tls": "require",
    }
    answer = await http.post("/v1/messages", json=body, headers={"Idempotency-Key": "order-7"})
    assert answer.status_code == 202
    assert answer.json()["deliveries"][0] == {
        "delivery": "dlv_1",
        "recipient": "ann@gmail.example",
        "state": "queued",
        "reason": "",
    }
    sent = engine.sent[0]
    assert (sent.sender, sent.to, sent.cc) == (
        "Shop <news@shop.example>",
        ("ann@gmail.example",),
        ("bob@outlook.example",),
    )
    assert sent.headers == (("X-Order", "7"), ("X-Many", "a"), ("X-Many", "b"))
    assert sent.attachments[0].data == b"\x89PNG"
    assert (sent.idempotency_key, sent.fields, sent.send_at_ms) == ("order-7", {"name": "Ann"}, 1769850000000)
    assert sent.tls == "require"


async def test_raw_messages_in_json_and_as_rfc822(http: httpx.AsyncClient, engine: Any) -> None:
    raw = b"From: news@shop.example\r\nTo: ann@gmail.example\r\n\r\nH\xe9\r\n"
    first = await http.post("/v1/messages", json={"raw": base64.b64encode(raw).decode(), "to": ["ann@gmail.example"]})
    second = await http.post(
        "/v1/messages",
        params={
            "from": "bounce@shop.example",
            "to": ["ann@gmail.example", "bob@gmail.example"],
            "stream": "bulk",
            "tls": "require",
        },
        content=raw,
        headers={"Content-Type": "message/rfc822"},
    )
    assert (first.status_code, second.status_code) == (202, 202)
    assert [sent.raw for sent in engine.sent] == [raw, raw]
    assert engine.sent[1].sender == "bounce@shop.example"
    assert engine.sent[1].to == ("ann@gmail.example", "bob@gmail.example")
    assert [sent.tls for sent in engine.sent] == ["", "require"]


@pytest.mark.parametrize(
    ("change", "field", "what"),
    [
        ({"to": []}, "", "there is no recipient"),
        ({"from": ""}, "", "from is missing"),
        ({"text": None}, "", "neither html nor text"),
        ({"subject": "a\r\nBcc: x@y.example"}, "subject", "line break"),
        ({"headers": {"X-A": "1\n2"}}, "headers.X-A", "line break"),
        ({"attachments": [{"filename": "a", "content": "%%%"}]}, "attachments[0].content", "base64"),
        ({"send_at": "tomorrow"}, "send_at", "RFC 3339"),
        ({"send_at": "2026-01-31T10:00:00"}, "send_at", "offset"),
        ({"recipient": "x"}, "recipient", "Extra inputs"),
        ({"tls": "any"}, "tls", "require"),
        ({"raw": "SGk="}, "", "cannot stand beside it"),
    ],
)
async def test_wrong_input_names_field_and_fix(
    http: httpx.AsyncClient, engine: Any, change: dict[str, Any], field: str, what: str
) -> None:
    answer = await http.post("/v1/messages", json=GOOD | change)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["where"].startswith(field)
    assert what in found["detail"]
    assert found["problems"]
    assert not engine.sent


async def test_the_engines_words_come_through(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/messages", json=GOOD | {"to": ["ann.gmail.example"]})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "there is no @ in it"
    assert answer.json()["mend"] == "write it as name@domain"


async def test_bodies_are_bounded_while_they_stream(http: httpx.AsyncClient, engine: Any) -> None:
    endless_pulls = 0

    async def endless() -> Any:
        nonlocal endless_pulls
        while True:
            endless_pulls += 1
            yield b"x" * 65536

    for headers in ({"Content-Type": "message/rfc822"}, {"Content-Type": "application/json"}):
        endless_pulls = 0
        answer = await http.post("/v1/messages", content=endless(), headers=headers)
        assert answer.status_code == 413
        assert answer.json()["detail"].endswith("bytes")
        assert endless_pulls < 12
    assert (
        await http.post("/v1/domains", content=endless(), headers={"Content-Type": "application/json"})
    ).status_code == 413
    assert not engine.sent


@pytest.mark.parametrize(
    ("content", "media_type", "status", "kind"),
    [
        (b"{", "application/json", 400, "malformed"),
        (b"\xff", "application/json", 400, "malformed"),
        (b"[]", "application/json", 422, "invalid-input"),
        (b"", "message/rfc822", 422, "invalid-input"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        (b"{}", "", 415, "unsupported-media-type"),
    ],
)
async def test_what_cannot_be_read(
    http: httpx.AsyncClient, content: bytes, media_type: str, status: int, kind: str
) -> None:
    answer = await http.post("/v1/messages", content=content, headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["type"]) == (status, f"/v1/docs#problem-{kind}")


async def test_a_full_house_is_429_and_a_bug_tells_nothing(http: httpx.AsyncClient, engine: Any) -> None:
    engine.busy = True
    busy = await http.post("/v1/messages", json=GOOD)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
    engine.busy, engine.broken = False, True
    failed = await http.post("/v1/messages", json=GOOD)
    assert failed.status_code == 500
    assert failed.headers["content-type"] == "application/problem+json"
    assert "secret" not in failed.text
