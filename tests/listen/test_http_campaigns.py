"""``POST /v1/campaigns``: JSON and streamed multipart, lists of any size, refusals, clients that go away."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

CAMPAIGN = {"name": "News", "from": "news@shop.example", "subject": "Hi {{ name }}", "html": "<p>Hi</p>"}
CSV = b"email,name\nann@gmail.example,Ann\nbob@outlook.example,Bob\n"


def multipart(*parts: tuple[str, str, bytes]) -> tuple[dict[str, str], bytes]:
    """Header fields and body from (disposition parameters, media type, data)."""
    body = b""
    for disposition, media_type, data in parts:
        head = f"--XX\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {media_type}\r\n\r\n"
        body += head.encode() + data + b"\r\n"
    return {"Content-Type": "multipart/form-data; boundary=XX"}, body + b"--XX--\r\n"


def upload(recipients: bytes, media_type: str = "text/csv", **options: Any) -> tuple[dict[str, str], bytes]:
    return multipart(
        ('name="campaign"', "application/json", json.dumps(CAMPAIGN | options).encode()),
        ('name="recipients"; filename="list.csv"', media_type, recipients),
    )


async def test_a_campaign_in_one_json_document(http: httpx.AsyncClient, engine: Any) -> None:
    recipients = [{"email": "ann@gmail.example", "First name": "Ann"}, "Bob <bob@outlook.example>"]
    answer = await http.post(
        "/v1/campaigns", json=CAMPAIGN | {"recipients": recipients}, headers={"Idempotency-Key": "k"}
    )
    assert answer.status_code == 202, answer.text
    assert answer.json()["campaign"]["name"] == "News"
    taken = engine.uploads[0]
    assert (taken.request.idempotency_key, taken.request.stream, taken.ended) == ("k", "bulk", "sealed")
    assert [row.address for row in taken.rows] == ["ann@gmail.example", "bob@outlook.example"]
    assert taken.rows[0].fields["first_name"] == "Ann"


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("text/csv", CSV),
        ("application/octet-stream", CSV),  # then the file name says it
        ("application/x-ndjson", b'{"email":"ann@gmail.example"}\n{"email":"bob@outlook.example"}\n'),
        ("application/json", b'[{"email":"ann@gmail.example"},{"email":"bob@outlook.example"}]'),
    ],
)
async def test_lists_of_every_kind_as_multipart(
    http: httpx.AsyncClient, engine: Any, media_type: str, data: bytes
) -> None:
    headers, body = upload(data, media_type)
    answer = await http.post("/v1/campaigns", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert [row.address for row in engine.uploads[0].rows] == ["ann@gmail.example", "bob@outlook.example"]


async def test_any_split_of_the_body_is_the_same(http: httpx.AsyncClient, engine: Any) -> None:
    headers, body = upload(b'email,n\r\nann@gmail.example,"a\r\n--XY\r\nb"\r\nbob@gmail.example,2\r\n')

    async def split(size: int) -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    for size in (1, 2, 7, 64):
        assert (await http.post("/v1/campaigns", content=split(size), headers=headers)).status_code == 202
    assert len({str(taken.rows) for taken in engine.uploads}) == 1
    assert engine.uploads[0].rows[0].fields["n"] == "a\n--XY\nb"


async def test_one_bad_row_refuses_the_list_and_names_the_line(http: httpx.AsyncClient, engine: Any) -> None:
    headers, body = upload(CSV + b"carol,C\n")
    refused = await http.post("/v1/campaigns", content=body, headers=headers)
    assert refused.status_code == 422
    found = refused.json()
    assert found["type"] == "/v1/docs#problem-list-refused"
    assert (found["rows"], found["invalid"], found["problem_count"]) == (3, 1, 1)
    assert found["problems"] == [
        {
            "line": 4,
            "code": "bad-address",
            "what": "there is no @ in it",
            "mend": "write it as name@domain",
            "field": "email",
            "value": "carol",
        }
    ]
    assert not engine.campaigns
    headers, body = upload(CSV + b"carol,C\n", skip_invalid=True)
    taken = await http.post("/v1/campaigns", content=body, headers=headers)
    assert (taken.status_code, taken.json()["invalid"]) == (202, 1)


async def test_a_dry_run_is_200_and_shows_previews(http: httpx.AsyncClient, engine: Any) -> None:
    headers, body = upload(CSV + b"carol,C\n", dry_run=True, previews=2)
    answer = await http.post("/v1/campaigns", content=body, headers=headers)
    assert answer.status_code == 200
    assert (answer.json()["campaign"], answer.json()["invalid"], len(answer.json()["previews"])) == (None, 1, 2)
    assert not engine.campaigns


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([('name="recipients"', "text/csv", CSV)], "first part is not campaign"),
        ([('name="campaign"', "application/json", json.dumps(CAMPAIGN).encode())], "second part is not recipients"),
        ([('name="campaign"', "application/json", b'{"from":"a@b.example"}')], "subject is missing"),
        (
            [
                ('name="campaign"', "application/json", json.dumps(CAMPAIGN | {"subject": "{{ x"}).encode()),
                ('name="recipients"', "text/csv", CSV),
            ],
            "template is wrong",
        ),
        (
            [
                ('name="campaign"', "application/json", json.dumps(CAMPAIGN).encode()),
                ('name="recipients"', "image/png", CSV),
            ],
            "unknown kind",
        ),
        (
            [
                ('name="campaign"', "application/json", json.dumps(CAMPAIGN).encode()),
                ('name="recipients"', "text/csv", b"a,b\n1,2\n"),
            ],
            "no column is named like an address",
        ),
        (
            [
                ('name="campaign"', "application/json", json.dumps(CAMPAIGN).encode()),
                ('name="recipients"', "text/csv", CSV),
                ('name="more"', "text/csv", CSV),
            ],
            "third part",
        ),
    ],
)
async def test_wrong_parts_and_lists_leave_nothing_behind(
    http: httpx.AsyncClient, engine: Any, parts: list[tuple[str, str, bytes]], what: str
) -> None:
    headers, body = multipart(*parts)
    answer = await http.post("/v1/campaigns", content=body, headers=headers)
    assert answer.status_code == 422
    assert what in answer.json()["detail"]
    assert all(taken.ended == "abandoned" for taken in engine.uploads)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "multipart/form-data"}, b"", 400),
        ({"Content-Type": "multipart/form-data; boundary=XX"}, b"garbage", 400),
        ({"Content-Type": "multipart/form-data; boundary=XX"}, b"--XX\r\n", 400),
        ({"Content-Type": "text/csv"}, CSV, 415),
        ({"Content-Type": "application/json"}, b'{"recipients":', 400),
    ],
)
async def test_what_cannot_be_read(http: httpx.AsyncClient, headers: dict[str, str], body: bytes, status: int) -> None:
    answer = await http.post("/v1/campaigns", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_a_list_cut_off_in_the_middle_is_abandoned(http: httpx.AsyncClient, engine: Any) -> None:
    headers, body = upload(CSV)
    answer = await http.post("/v1/campaigns", content=body[:-10], headers=headers)
    assert answer.status_code == 400
    assert engine.uploads[0].ended == "abandoned"


async def test_a_client_that_goes_away_is_abandoned(
    app: FastAPI, engine: Any, serve: Callable[[FastAPI], Awaitable[int]]
) -> None:
    port = await serve(app)
    _, body = upload(CSV * 2000)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/campaigns HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer all\r\n"
        b"Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: 999999\r\n\r\n" + body[:-40]
    )
    await writer.drain()
    while not engine.uploads:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    writer.close()
    while not engine.uploads[0].ended:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert engine.uploads[0].ended == "abandoned"


async def test_a_long_list_passes_in_bounded_chunks_and_memory(http: httpx.AsyncClient, engine: Any) -> None:
    headers, body = upload(b"@@", previews=0)
    head, tail = body.split(b"@@")
    rows = 20_000
    block = b"".join(b"user%d@gmail.example,Ann Lee,Oslo\n" % number for number in range(1000))

    async def stream() -> AsyncIterator[bytes]:
        yield head + b"email,name,city\n"
        for _ in range(rows // 1000):
            yield block
        yield tail

    tracemalloc.start()
    answer = await http.post("/v1/campaigns", content=stream(), headers=headers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status_code == 202
    taken = engine.uploads[0]
    assert taken.row_count == rows
    assert max(taken.chunks) <= 2000
    assert peak < 6_000_000


async def test_an_early_refusal_reaches_a_client_that_is_still_sending(
    app: FastAPI, serve: Callable[[FastAPI], Awaitable[int]]
) -> None:
    port = await serve(app)
    headers, body = upload(b"a,b\n" + b"1,2\n" * 500_000)
    async with httpx.AsyncClient(headers={"Authorization": "Bearer all"}) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/v1/campaigns", content=body, headers=headers)
    assert answer.status_code == 422
    assert "a, b" in answer.json()["detail"]
