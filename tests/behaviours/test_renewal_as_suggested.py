"""A whole server renews when its authority asks for it (RFC 9773), and says why where it cannot."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mailfleet.base.clock import rfc3339
from mailfleet.net.renewal_info import certificate_id
from tests.behaviours.server import wait_until
from tests.behaviours.test_certificates import HOST, Plant, wait_until_shown
from tests.peers.renewal_info import RenewalDoor, Said, window

PAGE = "https://authority.example/incident"
LATER = Said(body=window("2999-01-01T00:00:00Z", "2999-01-02T00:00:00Z"))
OVER = Said(body=window("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", explanationURL=PAGE))
WISH = f"the authority wants it replaced now: see {PAGE}"


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[tuple[Plant, RenewalDoor]]:
    """A server whose retry time runs fast: it asks again after less than a second."""
    plant = Plant(tmp_path, "http-01")
    door = RenewalDoor(plant.pebble, lambda name: LATER)
    plant.server.change("acme", "directory", door.directory)
    plant.server.change("delivery", "time_scale", 100_000)
    plant.start()
    yield plant, door
    plant.close()
    door.close()


def test_an_authority_that_wants_to_be_left_alone_is_over_a_restart(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "http-01")
    door = RenewalDoor(plant.pebble, lambda name: LATER)
    asked_s: list[float] = []

    def refuse(order: object) -> Said:
        asked_s.append(time.monotonic())
        said = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates"}
        # The second time for so long that nothing but a person's word can be why it is asked again
        return Said(429, json.dumps(said).encode(), retry_after="7200" if len(asked_s) == 1 else "600000")

    door.refuses = refuse
    plant.server.change("acme", "directory", door.directory)
    plant.server.change(
        "delivery", "time_scale", 600
    )  # two hours are 12 s; after a failure alone it would be half a second
    try:
        plant.start()
        wait_until(lambda: "too many certificates" in plant.certificate()["problem"], 60, plant.server.output)
        plant.server.restart()
        wait_until(lambda: len(asked_s) > 1, 90, plant.server.output)
        assert asked_s[1] - asked_s[0] >= 12
        wait_until(
            lambda: plant.certificate()["next_try"] > rfc3339(time.time_ns() // 1_000_000), 30, plant.server.output
        )
        told = plant.server.cli("certificate", "renew", HOST)
        assert (told.code, "too many certificates" in told.out) == (1, True), told.out + told.err
        assert len(asked_s) == 3, "a person does not wait"
    finally:
        plant.close()
        door.close()


def in_days(count: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=count):%Y-%m-%dT00:00:00Z}"


def test_what_is_to_be_revoked_is_replaced(planted: tuple[Plant, RenewalDoor]) -> None:
    plant, door = planted
    plant.wait()
    first = wait_until_shown(plant)
    name = certificate_id(first.public_bytes(Encoding.PEM).decode())
    wait_until(lambda: name in door.asked, 60, plant.server.output)
    assert not plant.certificate()["suggested"]
    assert plant.certificate()["problem"] == ""
    begin, end = in_days(20), in_days(21)
    door.says = lambda asked: Said(body=window(begin, end))
    wait_until(lambda: plant.certificate()["suggested"], 60, plant.server.output)
    assert begin <= plant.certificate()["next_try"] <= end
    assert "early, as the authority asks" in " ".join(plant.server.cli("certificate", "list").out.split())
    door.refuses = lambda order: Said(503, b"{}")
    door.says = lambda asked: OVER if asked == name else LATER
    wait_until(lambda: WISH in plant.certificate()["problem"], 60, plant.server.output)
    assert WISH in " ".join(plant.server.cli("certificate", "list", "--json").out.split())
    assert plant.shown().serial_number == first.serial_number
    door.refuses = lambda order: None
    wait_until(lambda: plant.shown().serial_number != first.serial_number, 60, plant.server.output)
    assert door.orders[0].get("replaces") is None
    assert door.orders[-1]["replaces"] == name
    wait_until(lambda: plant.certificate()["problem"] == "", 20, plant.server.output)
