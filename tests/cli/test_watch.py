"""Watching a campaign: to its end, through a restart of the server, until Ctrl-C."""

from __future__ import annotations

import io
import json
import threading
import time
from typing import Any

from rich.console import Console

from mailfleet.cli.watch import Display, Pace, progress_block, progress_line, settled, watch_campaign
from tests.cli.conftest import campaign_view

PATH = "GET /v1/campaigns/cmp_0000000000001"
HALF = campaign_view(state="sending", recipients=100, delivered=40, bounced=10, queued=50, pending=50, deferred=20)


def test_watching_ends_when_nothing_is_pending(mailfleet: Any, server: Any) -> None:
    server.answer(PATH, HALF, campaign_view(state="finished", pending=1), campaign_view())
    result = mailfleet("campaign", "watch", "cmp_0000000000001", "--json", "--data", str(server.data))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["delivered"] == 5
    assert len(server.asked) == 3


def test_a_cancelled_campaign_exits_4(mailfleet: Any, server: Any) -> None:
    server.answer(PATH, campaign_view(state="cancelled", cancelled=3))
    result = mailfleet("campaign", "watch", "cmp_0000000000001", "--json", "--data", str(server.data))
    assert result.exit_code == 4
    assert json.loads(result.stdout)["cancelled"] == 3


def test_an_unknown_campaign_exits_1(mailfleet: Any, server: Any) -> None:
    result = mailfleet("campaign", "watch", "cmp_x", "--data", str(server.data))
    assert result.exit_code == 1
    assert "there is no such record" in result.stderr


def test_ctrl_c_leaves_the_campaign_running_and_says_how_to_watch_again(
    mailfleet: Any, server: Any, monkeypatch: Any
) -> None:
    server.answer(PATH, HALF)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mailfleet.cli.watch.time.sleep", interrupt)
    result = mailfleet("campaign", "watch", "cmp_0000000000001", "--data", str(server.data))
    assert result.exit_code == 130
    assert f"mailfleet campaign watch cmp_0000000000001 --data {server.data}" in result.stderr
    assert [asked for asked, _, _ in server.asked] == [PATH]


def test_watching_survives_a_restart_on_another_port(server: Any, capsys: Any) -> None:
    server.answer(PATH, HALF, campaign_view())
    there = (server.data / "connection.json").read_text()
    done: list[dict[str, Any]] = []
    watcher = threading.Thread(target=lambda: done.append(watch_campaign(server.data, "cmp_0000000000001")))
    watcher.start()
    while not server.asked:
        time.sleep(0.01)
    (server.data / "connection.json").write_text('{"http": "http://127.0.0.1:9", "token": "secret-token"}')
    server.answer(PATH, HALF)
    watcher.join(0.6)
    server.answer(PATH, campaign_view())
    (server.data / "connection.json").write_text(there)
    watcher.join(20)
    assert done[0]["state"] == "finished"


def test_a_server_that_stays_away_ends_the_watch_with_3(mailfleet: Any, server: Any) -> None:
    (server.data / "connection.json").write_text('{"http": "http://127.0.0.1:9", "token": "secret-token"}')
    result = mailfleet("campaign", "watch", "cmp_1", "--data", str(server.data))
    assert result.exit_code == 3
    assert "watch again: mailfleet campaign watch cmp_1" in result.stderr


def test_the_pace_is_that_of_the_last_ten_seconds() -> None:
    pace = Pace()
    assert pace.per_second == 0
    for second in range(30):
        pace.add(float(second), 0 if second < 15 else (second - 14) * 100)
    assert 99 < pace.per_second < 101
    assert pace.left(HALF) == "about 0.3 s left"


def test_what_cannot_be_reckoned_is_said_in_words() -> None:
    pace = Pace()
    assert pace.left(campaign_view(state="paused", pause_reason="asked", pending=1)) == "paused: asked"
    assert (
        pace.left(campaign_view(state="scheduled", send_at="2026-02-01T00:00:00.000Z"))
        == "starts at 2026-02-01 00:00:00 UTC"
    )
    assert pace.left(campaign_view(state="sending", pending=2, deferred=2)) == "2 waiting for their next try"
    assert pace.left(campaign_view(state="sending", pending=2, deferred=1)) == ""


def test_every_final_outcome_counts_as_settled() -> None:
    view = campaign_view(delivered=1, bounced=2, expired=3, cancelled=4, suppressed=5)
    assert settled(view) == 15


def test_piped_progress_is_one_line_every_ten_seconds_and_one_at_the_end() -> None:
    now = [0.0]
    out = io.StringIO()
    with Display(Console(file=out), now_s=lambda: now[0]) as display:
        for second in range(25):
            now[0] = float(second)
            display.update(HALF | {"delivered": 40 + second}, Pace())
        display.update(campaign_view(), Pace())
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == "50 of 100: delivered 40, deferred 20, bounced 10, expired 0; 0/s"
    assert lines[-1].startswith("7 of 7: delivered 5,")


def test_the_live_display_fits_a_narrow_terminal() -> None:
    for width in (40, 80, 200):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, record=True)
        console.print(progress_block(HALF | {"name": "بريد\x1b[2J " * 3}, Pace(), width))
        shown = console.export_text()
        assert "50 of 100" in shown
        assert "\x1b[2J" not in shown
    assert "deferred 20" in progress_line(HALF, Pace())
