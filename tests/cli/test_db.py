"""``mailfleet db``: what is stored is upgraded, checked, and moved to a server and back without a row missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from mailfleet.app.folder import DataFolder
from mailfleet.base.errors import ConfigError
from mailfleet.policy.brakes import Decision, put_on
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store import brakes, contents, counts, egress, migrate, queue, sites, tenants, warmups
from mailfleet.store.database import Place, Tx, open_database
from mailfleet.store.events import EventRow, append
from mailfleet.store.transfer import snapshot
from tests.store.cluster import Cluster, wait
from tests.store.rows import NOW_MS, TENANT, check_laws, new_delivery, running_campaign, settlement

S = DeliveryState


def fill(place: Place) -> None:
    """Something in every corner: a campaign half done, counted numbers with gaps, bytes, NUL, letters of every kind."""

    def work(tx: Tx) -> None:
        tenants.ensure_default(tx)
        egress.ensure_default(tx, NOW_MS)
        egress.insert_pool(tx, egress.Pool(2, 0, "second", 1, NOW_MS))
        egress.set_members(tx, 2, [egress.Member(2, 1, 5)])
        rest = Decision("rest", 0, 5, 5, "a reason", words="\U0001f600 ä")
        brakes.put(tx, put_on(rest, 70, NOW_MS))
        warmups.add(tx, {(1, "gmail", 3, "delivered"): 4})
        counts.add(tx, Counter({counts.Key(1, 1, "gmail", "a.example", 2, 5, "delivered"): 9}))
        domain_id, _ = sites.domains(tx, ["example.org"])["example.org"]
        site_id = sites.put_site(tx, "k", "mx", [(10, "mx.example.org")], "gmail", "")
        info = contents.ContentInfo(from_domain="a.example")
        contents.put(tx, contents.Content(900, TENANT, "raw", bytes(range(256)), info), now_ms=NOW_MS)
        running_campaign(tx, 5, 50, range(1, 21))
        rows = [new_delivery(n, campaign_id=5, domain_id=domain_id, site_id=site_id) for n in range(1, 20)]
        odd = new_delivery(
            20, campaign_id=5, domain_id=domain_id, site_id=site_id, fields='{"name":"Zoë 😀 \\u0000"}', reason="a\0b"
        )
        queue.insert(tx, [*rows, odd], now_ms=NOW_MS)
        lease = queue.new_lease(tx, "deliver-0", 0, NOW_MS)
        held = queue.claim(tx, queue.backlog(tx)[0], limit=9, now_ms=NOW_MS, lease_id=lease)
        ends = [S.DELIVERED] * 3 + [S.BOUNCED, S.QUEUED]
        queue.settle(tx, [settlement(*one) for one in zip(held[:5], ends, strict=True)], lease_id=lease, now_ms=NOW_MS)
        gone = queue.new_lease(tx, "deliver-1", 1, NOW_MS)
        queue.release(tx, gone, now_ms=NOW_MS)
        append(tx, [EventRow(NOW_MS, TENANT, "deferred", 0, 0, None)])
        tx.run("DELETE FROM event WHERE id = (SELECT max(id) FROM event)")

    async def run() -> None:
        database = open_database(place)
        await database.write(work)
        database.close()

    wait(run())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = DataFolder(tmp_path / "data")
    folder.prepare(sandbox=False)
    migrate.upgrade(folder.database)
    fill(folder.database)
    return folder.root


def last(result: Any) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


def everything(place: Place) -> dict[str, list[tuple[Any, ...]]]:
    from mailfleet.store.schema import metadata_for

    with snapshot(place) as tx:
        return {
            name: sorted(tx.rows(f"SELECT {', '.join(column.name for column in table.columns)} FROM {name}"), key=repr)
            for name, table in metadata_for("sqlite").tables.items()
        }


def next_numbers(place: Place) -> tuple[int, int]:
    async def run() -> tuple[int, int]:
        database = open_database(place)

        def work(tx: Tx) -> tuple[int, int]:
            append(tx, [EventRow(NOW_MS, TENANT, "deferred", 0, 0, None)])
            return tx.value("SELECT max(id) FROM event"), queue.new_lease(tx, "x", 9, NOW_MS)

        found = await database.write(work)
        database.close()
        return found

    return wait(run())


def test_there_and_back(mailfleet: Callable[..., Any], data: Path, cluster: Cluster) -> None:
    folder, url = DataFolder(data), cluster.create("moved_there")
    before = everything(folder.database)
    moved = mailfleet("db", "move", "--to", url, "--data", str(data), "--json")
    assert moved.exit_code == 0, moved.output
    assert cluster.password not in moved.output
    assert {row["table"]: row["rows"] for row in last(moved)["moved"]} == {
        name: len(rows) for name, rows in before.items()
    }
    after = everything(url)
    reason = next(row for row in after["delivery"] if row[0] == 20)
    assert "a\ufffdb" in reason
    assert after == {
        name: [tuple("a\ufffdb" if value == "a\0b" else value for value in row) for row in rows]
        for name, rows in before.items()
    }
    assert not folder.database.exists()
    with pytest.raises(ConfigError, match="was moved to postgresql://mailfleet@"):
        folder.place("")
    assert folder.place(url) == url
    assert next_numbers(url) == (27, 3), "numbers that were given once do not come back"
    with snapshot(url) as tx:
        check_laws(tx)
    (data / "mailfleet.toml").write_text(f'[database]\nurl = "{url}"\n')
    assert mailfleet("db", "check", "--data", str(data)).exit_code == 0
    back = mailfleet("db", "move", "--to", "embedded", "--data", str(data))
    assert back.exit_code == 0, back.output
    (data / "mailfleet.toml").unlink()
    assert len(everything(folder.database)["event"]) == len(before["event"]) + 1
    assert next_numbers(folder.database) == (28, 4)
    with pytest.raises(ConfigError, match="was moved away"):
        migrate.version_of(url)
    cluster.drop("moved_there")


def test_a_move_that_was_interrupted_is_repeated(
    mailfleet: Callable[..., Any], data: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = DataFolder(data), cluster.create("interrupted")
    whole = Path.rename

    def dies(self: Path, target: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", dies)
    assert mailfleet("db", "move", "--to", url, "--data", str(data)).exit_code != 0
    monkeypatch.setattr(Path, "rename", whole)
    assert folder.database.exists()
    again = mailfleet("db", "move", "--to", url, "--data", str(data), "--json")
    assert again.exit_code == 0, again.output
    assert not folder.database.exists()
    cluster.drop("interrupted")


def test_a_database_that_holds_something_else_is_left_alone(
    mailfleet: Callable[..., Any], data: Path, cluster: Cluster
) -> None:
    url = cluster.create("taken")
    migrate.upgrade(url)
    cluster.command("INSERT INTO tenant VALUES (9, 'somebody')", database="taken")
    result = mailfleet("db", "move", "--to", url, "--data", str(data), "--json")
    assert result.exit_code != 0
    assert "other things already" in last(result)["error"]
    assert DataFolder(data).database.exists()
    assert not DataFolder(data).moved.exists()
    assert len(everything(url)["tenant"]) == 1
    cluster.drop("taken")


def test_what_a_move_refuses(mailfleet: Callable[..., Any], data: Path, cluster: Cluster) -> None:
    for to, told in (
        ("mysql://x/y", "no URL"),
        ("embedded", "in the folder already"),
        (cluster.url("nowhere"), "does not exist"),
    ):
        result = mailfleet("db", "move", "--to", to, "--data", str(data), "--json")
        assert result.exit_code != 0
        assert told in last(result)["error"]
    with DataFolder(data).held():
        result = mailfleet("db", "move", "--to", cluster.url(), "--data", str(data), "--json")
        assert "running here" in last(result)["error"]
    result = mailfleet("db", "check", "--data", str(data / "not"), "--json")
    assert "no data folder" in last(result)["error"]


def test_migrate_says_from_where_to_where(mailfleet: Callable[..., Any], tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "old")
    folder.prepare(sandbox=False)
    migrate.upgrade(folder.database, "0001")
    result = mailfleet("db", "check", "--data", str(folder.root), "--json")
    assert "db migrate" in last(result)["mend"]
    result = mailfleet("db", "migrate", "--data", str(folder.root), "--json")
    assert (last(result)["from"], last(result)["to"]) == ("0001", migrate.HEAD)
    assert "already" in mailfleet("db", "migrate", "--data", str(folder.root)).stdout


def test_check_finds_what_does_not_fit(mailfleet: Callable[..., Any], data: Path) -> None:
    assert mailfleet("db", "check", "--data", str(data)).exit_code == 0
    connection = apsw.Connection(str(data / "mailfleet.db"))
    connection.execute(
        "UPDATE tally SET n = n + 1 WHERE state = 3; DELETE FROM content; UPDATE delivery SET lease_id = 77 WHERE id = 20"
    )
    connection.close()
    result = mailfleet("db", "check", "--data", str(data), "--json")
    assert result.exit_code == 1
    wrong = {one["check"]: one["wrong"] for one in last(result)["checks"] if not one["ok"]}
    assert set(wrong) == {
        "tallies are what deliveries are",
        "what is to be sent has its content",
        "only what is leased has a lease",
    }
    assert wrong["tallies are what deliveries are"] == ["campaign 5: -1 deliveries in state 3 beside its tally"]
    text = mailfleet("db", "check", "--data", str(data)).stdout
    assert "delivery 20: its state and its lease do not fit" in text


def test_the_settings_do_not_show_a_password(
    mailfleet: Callable[..., Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILFLEET_DATABASE__URL", "postgresql://ann:s3cret@db.example/mail")
    result = mailfleet("settings", "check", "--json")
    assert last(result)["database"]["url"] == "postgresql://ann:***@db.example/mail"
    monkeypatch.setenv("MAILFLEET_DATABASE__URL", "pg://ann:s3cret@db.example/mail")
    result = mailfleet("settings", "check", "--json")
    assert result.exit_code != 0
    assert "postgresql://USER" in result.output
    assert "s3cret" not in result.output
