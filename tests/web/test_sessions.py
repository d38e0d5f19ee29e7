"""Sessions of the page: bounded, expiring, ended with their token; forms of other sites do nothing."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from mailfleet.web import sessions, words
from mailfleet.web.sessions import Sessions


class SteppedClock:
    """Time moves when told."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic_s(self) -> float:
        return self.at_s

    async def sleep(self, delay_s: float) -> None:
        self.at_s += delay_s


async def test_sessions_expire_and_end_with_their_token(engine: Any) -> None:
    clock = SteppedClock()
    found = Sessions(engine.services().manage, clock)
    assert await found.open("nope") is None
    assert await found.open("") is None
    idle = await found.open("all")
    assert idle
    assert await found.get(idle)
    clock.at_s += sessions.IDLE_S + 1
    assert await found.get(idle) is None
    busy = await found.open("all")
    assert busy
    for _ in range(int(sessions.LIFETIME_S / sessions.IDLE_S)):
        assert await found.get(busy)
        clock.at_s += sessions.IDLE_S - 1
    clock.at_s += sessions.IDLE_S - 1
    assert await found.get(busy) is None
    removed = await found.open("reader")
    assert removed
    del engine.actors["reader"]
    assert await found.get(removed)
    clock.at_s += sessions.RECHECK_S + 1
    assert await found.get(removed) is None


async def test_sessions_are_bounded_and_keep_the_token_to_themselves(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    found = Sessions(engine.services().manage, SteppedClock())
    names = [await found.open("all") or "" for _ in range(4)]
    assert [await found.get(name) is not None for name in names] == [False, True, True, True]
    session = await found.get(names[3])
    assert session
    assert "bearer" not in repr(session)


async def test_forms_of_other_sites_do_nothing(app: Any, engine: Any, memory: Any) -> None:
    engine.campaigns["cmp_1"] = memory.view_of("cmp_1")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://mail.example", follow_redirects=True
    ) as http:
        assert (await http.post("/campaigns/cmp_1/cancel", data={"csrf": "x"})).url.path == "/"
        assert (await http.get("/live/campaigns")).status_code == 401
        home = (await http.post("/login", data={"token": "all"})).text
        secret = re.findall(r'name="csrf" value="([^"]+)"', home)[0]
        for data, headers in (
            ({}, {}),
            ({"csrf": "guess"}, {}),
            ({"csrf": secret}, {"Origin": "http://evil.example"}),
            ({"csrf": secret}, {"Origin": "null"}),
        ):
            assert (await http.post("/campaigns/cmp_1/cancel", data=data, headers=headers)).status_code == 403
        assert (
            await http.post("/login", data={"token": "all"}, headers={"Origin": "http://evil.example"})
        ).status_code == 400
        assert engine.steered == []
        assert (await http.post("/campaigns/cmp_1/explode", data={"csrf": secret})).status_code == 404
        assert (await http.post("/campaigns/cmp_9/pause", data={"csrf": secret})).status_code == 409
        own = {"Origin": "http://mail.example"}
        assert (await http.post("/campaigns/cmp_1/cancel", data={"csrf": secret}, headers=own)).status_code == 200
        assert engine.steered == [("cmp_1", "cancelled")]
        policy = (await http.get("/")).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (await http.get("/static/page.css")).status_code == 200
        assert (await http.get("/static/../page.py")).status_code == 404
        await http.post("/logout", data={"csrf": secret})
        assert (await http.get("/live/campaigns")).status_code == 401


def test_words_of_strangers_are_bounded_and_cannot_turn_the_page_around() -> None:
    assert words.harmless("a\u202eb\x1b[31m\0c\r\nd") == "a\ufffdb\ufffd[31m\ufffdc d"
    assert words.harmless("x" * 400, 10) == "xxxxxxxxx\u2026"
    assert words.harmless("می\u200cخواهم") == "می\u200cخواهم"


def test_numbers_for_people(memory: Any) -> None:
    assert [words.age(seconds) for seconds in (5, 95, 5400, 100_000)] == ["5 s", "1 min", "1 h 30 min", "1 d 3 h"]
    view = memory.view_of("cmp_1", recipients=1000, pending=1, delivered=999)
    assert words.done_percent(view) == 99  # 100 is for when all is done
    assert words.done_percent(memory.view_of("cmp_1", recipients=0, pending=0, state="finished")) == 100
    parts = words.segments(memory.view_of("cmp_1"))
    assert sum(float(part["width"]) for part in parts) <= 100
