"""The front dies while a list is being handed over: the command goes on by itself, and the list is taken once, whole."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.behaviours.server import Server, wait_until

ROWS = 12_000


def staged(server: Server) -> int:
    """Rows of lists that are not taken whole yet."""
    sql = "SELECT count(*) FROM delivery d JOIN campaign c ON c.id = d.campaign_id WHERE c.state IN ('loading', 'sealing')"
    return int(server.rows(sql)[0][0])


@pytest.mark.parametrize("least", [1, ROWS // 2, ROWS])
def test_a_list_is_taken_once_however_often_the_front_dies(sandbox: Server, least: int) -> None:
    folder, at = sandbox.folder, (datetime.now(UTC) + timedelta(days=1)).isoformat()
    (folder / "list.csv").write_text("email\n" + "".join(f"ok-{least}-{number}@gmail.com\n" for number in range(ROWS)))
    (folder / "news.html").write_text("<p>News</p>")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mailfleet", "send", "--from", "news@shop.example", "--subject", f"News {least}"),
            *("--html", "news.html", "--recipients", "list.csv", "--at", at, "--json"),
            *("--data", str(sandbox.data)),
        ],
        cwd=folder,
        env=sandbox.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = 0
    while process.poll() is None and killed < 2:
        if staged(sandbox) >= least:
            sandbox.kill("front")
            killed += 1
            wait_until(sandbox.healthy)
        time.sleep(0.01)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    answer = json.loads(out.splitlines()[-1])
    name = answer["campaign"]["campaign"]
    assert (answer["rows"], answer["invalid"], answer["duplicates"]) == (ROWS, 0, 0)
    (view,) = [one for one in sandbox.pages("/v1/campaigns") if one["name"] == f"News {least}"]
    assert (view["campaign"], view["recipients"]) == (name, ROWS)
    wait_until(lambda: sandbox.get(f"/v1/campaigns/{name}")["state"] == "scheduled")
    assert wait_until(lambda: len(sandbox.events(campaign=name, kind="accepted")) == ROWS)
    assert sandbox.rows("SELECT count(*) FROM campaign WHERE state IN ('loading', 'sealing')") == [(0,)]
    assert sandbox.rows("SELECT count(*) FROM delivery WHERE campaign_id NOT IN (SELECT id FROM campaign)") == [(0,)]
    sandbox.post(f"/v1/campaigns/{name}/cancel")
    assert sandbox.wait_campaign(name)["cancelled"] == ROWS
