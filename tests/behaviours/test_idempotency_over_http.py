"""A request that is made again, because its answer was lost, does nothing again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.behaviours.server import Server

MESSAGE = {"from": "shop@shop.example", "to": ["ok-once@gmail.com"], "subject": "Order 1", "text": "Thank you\n"}


def post(server: Server, path: str, body: object, key: str) -> httpx.Response:
    return server.http.post(path, json=body, headers={"Idempotency-Key": key})


def copies(server: Server, address: str) -> int:
    return sum(one.recipient == address for one in server.inbox())


def test_a_message_sent_again_under_its_key_is_one_message(sandbox: Server) -> None:
    first = post(sandbox, "/v1/messages", MESSAGE, "order-1")
    again = post(sandbox, "/v1/messages", MESSAGE, "order-1")
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    sandbox.wait_delivery(first.json()["deliveries"][0]["delivery"])
    sandbox.restart()
    later = post(sandbox, "/v1/messages", MESSAGE, "order-1")
    assert later.json() == first.json()
    sandbox.wait_delivery(sandbox.message("ok-after@gmail.com"))
    assert copies(sandbox, "ok-once@gmail.com") == 1


def test_the_same_request_ten_times_at_once_is_one_message(sandbox: Server) -> None:
    body = {**MESSAGE, "to": ["ok-tenfold@gmail.com"]}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: post(sandbox, "/v1/messages", body, "order-10"), range(10)))
    assert {answer.status_code for answer in answers} == {202}
    (only,) = {json.dumps(answer.json(), sort_keys=True) for answer in answers}
    sandbox.wait_delivery(json.loads(only)["deliveries"][0]["delivery"])
    assert copies(sandbox, "ok-tenfold@gmail.com") == 1


def test_a_key_for_another_request_is_refused(sandbox: Server) -> None:
    post(sandbox, "/v1/messages", MESSAGE, "order-2")
    other = post(sandbox, "/v1/messages", {**MESSAGE, "subject": "Order 3"}, "order-2")
    assert other.status_code == 409
    assert other.json()["where"] == "Idempotency-Key"


def campaign_body(word: str, count: int = 300) -> dict[str, Any]:
    people = [f"ok-{word}{number}@gmail.com" for number in range(count)]
    return {"from": "news@shop.example", "subject": "News", "text": "Hello\n", "recipients": people}


def test_a_campaign_uploaded_again_under_its_key_is_one_campaign(sandbox: Server) -> None:
    body = campaign_body("idem")
    first, again = (post(sandbox, "/v1/campaigns", body, "news-1").json() for _ in range(2))
    name = first["campaign"]["campaign"]
    assert again["campaign"]["campaign"] == name
    assert sandbox.wait_campaign(name)["delivered"] == 300
    assert post(sandbox, "/v1/campaigns", body, "news-1").json()["campaign"]["campaign"] == name
    assert sum(one.recipient.startswith("ok-idem") for one in sandbox.inbox()) == 300


@pytest.mark.parametrize("attempt", range(3))
def test_a_campaign_uploaded_twice_at_once_goes_out_once(sandbox: Server, attempt: int) -> None:
    body, key = campaign_body(f"twice{attempt}-"), f"news-twice-{attempt}"
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: post(sandbox, "/v1/campaigns", body, key), range(2)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    names = {answer.json()["campaign"]["campaign"] for answer in answers if answer.status_code == 202}
    names.add(post(sandbox, "/v1/campaigns", body, key).json()["campaign"]["campaign"])
    (name,) = names
    assert sandbox.wait_campaign(name)["delivered"] == 300
    found = list(sandbox.pages("/v1/campaigns"))
    assert sum(one["campaign"] in names for one in found) == 1
    assert not [one for one in found if one["state"] not in ("finished", "cancelled")]
    assert sum(one.recipient.startswith(f"ok-twice{attempt}-") for one in sandbox.inbox()) == 300
    assert sandbox.rows("SELECT count(*) FROM campaign WHERE state NOT IN ('finished', 'cancelled')") == [(0,)]
