"""A real Prometheus, set up as the guide says, sees what the server did; a role that dies counts on from where it was."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.behaviours.server import Server, wait_until
from tests.peers import prometheus
from tests.peers.prometheus import Prometheus, promtool
from tests.ports import free_port


@pytest.fixture(scope="module")
def watcher(sandbox: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    target = sandbox.connection["http"].removeprefix("http://")
    token = sandbox.cli("token", "add", "prometheus", "--scope", "read", "--json").last["secret"]
    folder = tmp_path_factory.mktemp("prometheus") / "own"
    with prometheus.running(folder, free_port(), target, token) as asked:
        yield asked


def test_every_role_and_what_it_did_is_there(sandbox: Server, watcher: Prometheus) -> None:
    campaign = sandbox.campaign([{"email": f"ok{number}@gmail.com"} for number in range(20)])
    sandbox.message("ok-one@outlook.com")
    assert sandbox.wait_campaign(campaign["campaign"])["delivered"] == 20
    roles = {(name,): 1.0 for name in ("deliver-0", "deliver-1", "front", "jobs", "sandbox")}
    wait_until(lambda: watcher.ask("mailfleet_role_up") == roles)
    wait_until(
        lambda: (
            watcher.ask("sum by (entrance) (mailfleet_accepted_recipients_total)")
            == {("campaign",): 20, ("http",): 1, ("smtp",): 0}
        )
    )

    def posted() -> dict[tuple[str, str], float]:
        found = watcher.ask('mailfleet_http_requests_total{method="POST"}')
        return {(route, status): n for (_, _, route, status), n in found.items() if "tokens" not in route}

    wait_until(lambda: posted() == {("/v1/campaigns", "202"): 1, ("/v1/messages", "202"): 1})
    # Of a role that is late with its numbers nothing is told meanwhile
    wait_until(lambda: set(watcher.ask("mailfleet_resident_memory_bytes > 1e6")) == set(roles))
    wait_until(lambda: set(watcher.ask("mailfleet_open_file_descriptors > 3")) == set(roles))
    wait_until(lambda: set(watcher.ask("mailfleet_event_loop_lag_seconds_count > 0")) == set(roles))
    wait_until(lambda: set(watcher.ask("mailfleet_database_commits_total > 0")) >= {("front",), ("deliver-0",)})
    assert watcher.ask("mailfleet_free_disk_bytes > 1e6").keys() == {()}
    assert watcher.ask("mailfleet_unreadable_values_total > 0") == {}


def test_what_waits_is_counted_by_provider(sandbox: Server, watcher: Prometheus) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    campaign = sandbox.campaign([{"email": "ok-later@yahoo.com"}], send_at=tomorrow)
    wait_until(lambda: watcher.ask('mailfleet_queued_deliveries{provider="yahoo"}') == {("yahoo", "no"): 1})
    sandbox.post(f"/v1/campaigns/{campaign['campaign']}/cancel")
    wait_until(lambda: watcher.ask('mailfleet_queued_deliveries{provider="yahoo"}') == {})


def test_the_rules_of_the_guide_are_loaded_and_say_nothing_of_a_healthy_server(watcher: Prometheus) -> None:
    wait_until(lambda: all(rule["health"] == "ok" for rule in watcher.rules()))
    assert len(watcher.rules()) == 8


def test_a_killed_role_counts_on(sandbox: Server, watcher: Prometheus) -> None:
    sandbox.message("ok-two@gmail.com")
    before = wait_until(lambda: watcher.ask("mailfleet_accepted_recipients_total"))
    (starts,) = watcher.ask('mailfleet_role_starts_total{role="front"}').values()
    sandbox.kill("front")
    wait_until(lambda: watcher.ask(f'mailfleet_role_starts_total{{role="front"}} > {starts}'))
    after = watcher.ask("mailfleet_accepted_recipients_total")
    assert all(after[entrance] >= n for entrance, n in before.items())
    assert watcher.ask("resets(mailfleet_accepted_recipients_total[5m]) > 0") == {}


def test_the_page_keeps_the_rules_of_the_format(sandbox: Server) -> None:
    text = sandbox.http.get("/metrics").text
    assert promtool("check", "metrics", text=text) == ""
    answer = sandbox.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_strangers_read_nothing_unless_the_setting_lets_them(sandbox: Server, tmp_path: Path) -> None:
    url = sandbox.connection["http"] + "/metrics"
    assert httpx.get(url, trust_env=False).status_code == 401
    sender = sandbox.cli("token", "add", "sender", "--scope", "send", "--json").last["secret"]
    assert httpx.get(url, trust_env=False, headers={"Authorization": f"Bearer {sender}"}).status_code == 403
    with Server(tmp_path / "open", {"server": {"metrics_open": True}}) as opened:
        page = httpx.get(opened.connection["http"] + "/metrics", trust_env=False)
        assert page.status_code == 200
        assert "mailfleet_role_up" in page.text
        assert "@" not in page.text
