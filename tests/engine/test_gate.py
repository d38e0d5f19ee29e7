"""The gate: turns come in order, the urgent first, and between bursts the loop looks at its sockets."""

from __future__ import annotations

import asyncio

import pytest

from mailfleet.engine import gate
from mailfleet.engine.gate import Gate


class Caller:
    """Writes down when it was granted."""

    def __init__(self, name: str, log: list[str], *, wants: bool = True) -> None:
        self.name, self.log, self.wants = name, log, wants

    def granted(self) -> bool:
        if self.wants:
            self.log.append(self.name)
            self.wants = False
            return True
        return False


@pytest.fixture
def log() -> list[str]:
    return []


async def turns(count: int) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_burst_at_a_time(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BURST", 3)
    one = Gate()
    for number in range(8):
        one.ask(Caller(str(number), log), 10)
    assert log == ["0", "1", "2"], "the first go at once"
    await turns(1)
    assert log == ["0", "1", "2", "3", "4", "5"]
    await turns(2)
    assert log == [str(number) for number in range(8)]


async def test_the_urgent_go_first_and_make_the_loop_look_often(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BURST", 4)
    monkeypatch.setattr(gate, "URGENT_BURST", 1)
    one = Gate()
    for number in range(7):
        one.ask(Caller(str(number), log), 10)
    one.ask(Caller("urgent", log), 0)
    assert log == ["0", "1", "2", "3"]
    await turns(1)
    assert log[4:] == ["urgent"]
    await turns(1)
    assert log[4:] == ["urgent", "4"], "one at a time while it is on its way"


async def test_asking_again_with_more_urgency_is_granted_once(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BURST", 1)
    one, late = Gate(), Caller("late", log)
    for number in range(3):
        one.ask(Caller(str(number), log), 10)
    one.ask(late, 10)
    one.ask(late, 0)
    await turns(6)
    assert log == ["0", "late", "1", "2"]


async def test_who_does_not_want_it_any_more_costs_no_turn(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BURST", 1)
    one = Gate()
    one.ask(Caller("0", log), 10)
    gone = Caller("gone", log)
    one.ask(gone, 10)
    one.ask(Caller("1", log), 10)
    gone.wants = False
    await turns(1)
    assert log == ["0", "1"]
