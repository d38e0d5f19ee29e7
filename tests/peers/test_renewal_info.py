"""Asking an authority when to renew, and telling it what is replaced: over HTTPS, with Pebble behind."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mailfleet.net.acme_orders import AcmeError, AcmeOrders, Authority
from mailfleet.net.renewal_info import MOST_BYTES, ask_renewal, certificate_id
from mailfleet.net.tls_keys import new_key, signing_request
from mailfleet.policy.renewal_info import Suggestion, Window
from tests.net.handshakes import pair
from tests.peers.pebble import Pebble
from tests.peers.renewal_info import RenewalDoor, Said, window
from tests.ports import free_port

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
DAY_MS = 86_400_000
PAGE = "https://authority.example/incident"
GOOD = window("2026-01-03T00:00:00Z", "2026-01-04T01:00:00.5+01:00", explanationURL=PAGE)
HOST = "mail.shop.test"
CHAIN, _ = pair(HOST)


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """One that is asked for no proof."""
    nobody = f"127.0.0.1:{free_port()}"
    pebble = Pebble(tmp_path_factory.mktemp("pebble"), dns=nobody, http_port=free_port(), tls_port=free_port())
    yield pebble
    pebble.close()


@pytest.fixture
def door(pebble: Pebble) -> Iterator[RenewalDoor]:
    """In front of it; says ``GOOD``."""
    door = RenewalDoor(pebble, lambda name: Said(body=GOOD))
    yield door
    door.close()


def ask(pebble: Pebble, directory: str) -> Suggestion:
    return ask_renewal(Authority(directory, "", True, str(pebble.ca_file)), CHAIN, NOW_MS)


def orders_of(pebble: Pebble, directory: str) -> AcmeOrders:
    """With a new account."""
    orders = AcmeOrders(Authority(directory, "", True, str(pebble.ca_file)), new_key())
    orders.register()
    return orders


def test_the_window_and_the_time_to_ask_again_are_heard(pebble: Pebble, door: RenewalDoor) -> None:
    wanted = Window(NOW_MS + 2 * DAY_MS, NOW_MS + 3 * DAY_MS + 500, PAGE)
    assert ask(pebble, door.directory) == Suggestion(wanted)
    door.says = lambda name: Said(body=GOOD, retry_after="21600")
    assert ask(pebble, door.directory) == Suggestion(wanted, 21_600)
    door.says = lambda name: Said(body=GOOD, retry_after="Thu, 01 Jan 2026 02:00:00 GMT")
    assert ask(pebble, door.directory) == Suggestion(wanted, 7200)
    assert door.asked == [certificate_id(CHAIN)] * 3


def test_an_authority_that_does_not_know_of_it_suggests_nothing(pebble: Pebble) -> None:
    assert ask(pebble, pebble.directory) == Suggestion()


@pytest.mark.parametrize(
    ("said", "again_s", "why"),
    [
        (Said(404, b'{"type": "urn:ietf:params:acme:error:malformed", "detail": "unknown"}'), None, "answers 404"),
        (Said(503, b"", "3600"), 3600, "answers 503"),
        (Said(429, b"<html>", "nonsense"), None, "answers 429"),
        (Said(302, b""), None, "answers 302"),
        (Said(200, b"<html>", "60"), 60, "it is no renewal information"),
        (Said(200, window("2026-01-04T00:00:00Z", "2026-01-03T00:00:00Z")), None, "its window ends before it begins"),
        (Said(200, b" " * MOST_BYTES + GOOD), None, f"more than {MOST_BYTES} bytes"),
    ],
)
def test_what_cannot_be_used_says_why(
    pebble: Pebble, door: RenewalDoor, said: Said, again_s: float | None, why: str
) -> None:
    door.says = lambda name: said
    found = ask(pebble, door.directory)
    assert (found.window, found.again_s) == (None, again_s)
    assert why in found.problem


@pytest.mark.parametrize(
    "directory", [b"", b"<html>", b"[]", b"5", b'{"renewalInfo": 5}', b'{"renewalInfo": "file:///x"}']
)
def test_a_directory_that_is_none_says_so(pebble: Pebble, door: RenewalDoor, directory: bytes) -> None:
    door.directory_says = directory
    found = ask(pebble, door.directory)
    assert found.window is None
    assert "cannot be asked:" in found.problem


def test_an_authority_that_is_away_says_so(pebble: Pebble) -> None:
    assert "cannot be asked:" in ask(pebble, f"https://localhost:{free_port()}/dir").problem


def test_an_order_says_what_it_replaces(pebble: Pebble, door: RenewalDoor) -> None:
    orders, csr = orders_of(pebble, door.directory), signing_request(HOST, new_key())
    name = certificate_id(CHAIN)
    for replaces in (name, "", name):
        order, asked = orders.begin(csr, "http-01", replaces)
        assert order.uri.startswith(door.address)
        assert [one.host for _, one in asked] == [HOST]
    assert [one.get("replaces") for one in door.orders] == [name, None, name]
    assert {one["identifiers"][0]["value"] for one in door.orders} == {HOST}


def test_an_authority_that_does_not_know_of_it_is_not_told_what_is_replaced(pebble: Pebble, door: RenewalDoor) -> None:
    door.offers = False
    orders_of(pebble, door.directory).begin(signing_request(HOST, new_key()), "http-01", certificate_id(CHAIN))
    assert [set(one) & {"replaces"} for one in door.orders] == [set()]


@pytest.mark.parametrize(("status", "kind"), [(409, "alreadyReplaced"), (403, "unauthorized"), (400, "malformed")])
def test_what_it_does_not_take_for_replaced_is_ordered_all_the_same(
    pebble: Pebble, door: RenewalDoor, status: int, kind: str
) -> None:
    door.refuses = lambda order: refusal(status, kind) if "replaces" in order else None
    orders = orders_of(pebble, door.directory)
    _, asked = orders.begin(signing_request(HOST, new_key()), "http-01", certificate_id(CHAIN))
    assert len(asked) == 1
    assert ["replaces" in one for one in door.orders] == [True, False]


def test_an_authority_that_wants_to_be_left_alone_is(pebble: Pebble, door: RenewalDoor) -> None:
    door.refuses = lambda order: refusal(429, "rateLimited")._replace(retry_after="604800")
    orders = orders_of(pebble, door.directory)
    with pytest.raises(AcmeError, match="the order is refused: no: rateLimited") as refused:
        orders.begin(signing_request(HOST, new_key()), "http-01", certificate_id(CHAIN))
    assert refused.value.retry_after == "604800"
    assert len(door.orders) == 1


def refusal(status: int, kind: str) -> Said:
    return Said(status, json.dumps({"type": f"urn:ietf:params:acme:error:{kind}", "detail": f"no: {kind}"}).encode())
