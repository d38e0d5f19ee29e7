"""Sites and domains, suppressions, events by cursor, listings, streams, keys, logins, answers: what the smaller tables promise."""

from __future__ import annotations

import pytest

from mailfleet.policy.lifecycle import DeliveryState, FlowState
from mailfleet.store import (
    access,
    contents,
    deliveries,
    events,
    queue,
    sending,
    sites,
    suppressions,
    tenants,
)
from mailfleet.store.database import Tx
from mailfleet.store.events import EventRow
from tests.store.rows import NOW_MS, TENANT, new_delivery, running_campaign, settlement

S = DeliveryState


# Recipient domains and sites


def test_domains_are_made_once_and_put_up_for_location(tx: Tx) -> None:
    first = sites.domains(tx, ["a.example", "b.example"])
    assert set(first) == {"a.example", "b.example"}
    assert all(site_id == 0 for _, site_id in first.values())
    assert sites.domains(tx, {"b.example", "a.example"}) == first
    due = sites.due_domains(tx, now_ms=NOW_MS, slot=0, slots=1, limit=10)
    assert {one.name for one in due} == {"a.example", "b.example"}
    assert len(sites.due_domains(tx, now_ms=NOW_MS, slot=0, slots=1, limit=1)) == 1


def test_every_domain_belongs_to_one_slot(tx: Tx) -> None:
    sites.domains(tx, [f"d{number}.example" for number in range(20)])
    parts = [
        {one.id for one in sites.due_domains(tx, now_ms=NOW_MS, slot=slot, slots=3, limit=99)} for slot in range(3)
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20


def test_a_located_domain_is_looked_up_again_when_its_time_is_up(tx: Tx) -> None:
    ((domain_id, _),) = sites.domains(tx, ["a.example"]).values()
    site_id = sites.put_site(tx, "0:mx.example", "mx", [(10, "mx.example")], "gmail", "")
    assert sites.locate(tx, domain_id, site_id, valid_until_ms=NOW_MS + 60)
    assert sites.due_domains(tx, now_ms=NOW_MS + 59, slot=0, slots=1, limit=9) == []
    assert sites.due_domains(tx, now_ms=NOW_MS + 60, slot=0, slots=1, limit=9) == [
        sites.DueDomain(domain_id, "a.example", site_id)
    ]
    assert sites.domains(tx, ["a.example"]) == {"a.example": (domain_id, site_id)}


def test_a_domain_that_nobody_writes_to_rests_until_somebody_does(tx: Tx) -> None:
    ((domain_id, _),) = sites.domains(tx, ["a.example"]).values()
    site_id = sites.put_site(tx, "k", "mx", [(10, "mx.example")], "", "")
    sites.locate(tx, domain_id, site_id, valid_until_ms=NOW_MS)
    queue.insert(tx, [new_delivery(1, domain_id=domain_id, site_id=site_id)], now_ms=NOW_MS)
    assert not sites.rest_if_idle(tx, domain_id)
    tx.run("UPDATE delivery SET state = 3")
    assert sites.rest_if_idle(tx, domain_id)
    assert sites.due_domains(tx, now_ms=NOW_MS * 2, slot=0, slots=1, limit=9) == []
    sites.domains(tx, ["a.example"])
    assert [one.id for one in sites.due_domains(tx, now_ms=NOW_MS, slot=0, slots=1, limit=9)] == [domain_id]


def test_a_move_takes_queued_deliveries_along_in_steps(tx: Tx) -> None:
    ((domain_id, _),) = sites.domains(tx, ["a.example"]).values()
    other = sites.domains(tx, ["b.example"])["b.example"][0]
    queue.insert(tx, [new_delivery(one, domain_id=domain_id, site_id=0) for one in range(1, 8)], now_ms=NOW_MS)
    queue.insert(tx, [new_delivery(9, domain_id=other, site_id=0)], now_ms=NOW_MS)
    tx.run("UPDATE delivery SET state = 2, lease_id = 4 WHERE id = 7")
    site_id = sites.put_site(tx, "k", "mx", [], "", "")
    assert [sites.locate(tx, domain_id, site_id, valid_until_ms=NOW_MS, limit=3) for _ in range(3)] == [
        False,
        False,
        True,
    ]
    moved: dict[int, int] = dict(row[:2] for row in tx.rows("SELECT id, site_id FROM delivery"))
    assert moved == {**dict.fromkeys(range(1, 7), site_id), 7: 0, 9: 0}
    assert sites.domains(tx, ["a.example"])["a.example"] == (domain_id, site_id), "what comes now goes the new way"


def test_a_site_is_known_by_its_key_and_follows_the_newest_knowledge(tx: Tx) -> None:
    first = sites.put_site(tx, "0:mx.example", "mx", [(10, "mx.example")], "", "")
    assert sites.put_site(tx, "0:mx.example", "mx", [(5, "mx.example")], "gmail", "new") == first
    assert sites.put_site(tx, "null-mx", "null-mx", [], "", "") != first
    assert sites.site(tx, first) == sites.Site(first, "0:mx.example", "mx", ((5, "mx.example"),), "gmail", "new")
    assert sites.site(tx, 999) is None


# Suppressions


def test_processes_that_share_a_site(tx: Tx) -> None:
    first, second = (sites.put_site(tx, key, "mx", [(10, key)], "", "") for key in ("a", "b"))
    assert sites.shared(tx) == {}
    sites.set_shares(tx, second, 3)
    assert sites.shared(tx) == {second: 3}
    sites.set_shares(tx, first, 2)
    sites.reset_shares(tx)
    assert sites.shared(tx) == {}


def suppression(number: int, key: str, stream: str = "", **values: object) -> suppressions.Suppression:
    row = suppressions.Suppression(number, TENANT, key, stream, "hard-bounce", "550 no", "delivery 1", NOW_MS)
    return row._replace(**values)  # type: ignore[arg-type]  # names and types are the caller's care


def test_the_scope_of_a_suppression(tx: Tx) -> None:
    assert suppressions.add(tx, suppression(1, "all@x.example"))
    assert suppressions.add(tx, suppression(2, "news@x.example", "bulk"))
    assert suppressions.add(tx, suppression(3, "other@x.example", tenant_id=TENANT + 1))
    keys = ["all@x.example", "news@x.example", "other@x.example", "free@x.example"]
    assert set(suppressions.matching(tx, TENANT, "bulk", keys)) == {"all@x.example", "news@x.example"}
    assert set(suppressions.matching(tx, TENANT, "transactional", keys)) == {"all@x.example"}
    assert set(suppressions.matching(tx, TENANT + 1, "bulk", keys)) == {"other@x.example"}
    assert suppressions.matching(tx, TENANT, "bulk", []) == {}


def test_the_first_reason_stands(tx: Tx) -> None:
    assert suppressions.add(tx, suppression(1, "a@x.example", reason="complaint"))
    assert not suppressions.add(tx, suppression(2, "a@x.example", reason="manual"))
    found = suppressions.exact(tx, TENANT, "a@x.example", "")
    assert found
    assert (found.id, found.reason) == (1, "complaint")
    assert suppressions.add(tx, suppression(3, "a@x.example", "bulk")), "another scope is another suppression"
    assert not suppressions.remove(tx, TENANT, "a@x.example", "transactional")
    assert suppressions.remove(tx, TENANT, "a@x.example", "")
    assert not suppressions.remove(tx, TENANT, "a@x.example", "")
    assert [one.id for one in suppressions.page(tx, TENANT, after=0, limit=9)] == [3]


def test_as_many_addresses_as_a_chunk_has(tx: Tx) -> None:
    suppressions.add(tx, suppression(1, "user1999@example.org"))
    keys = [f"user{number}@example.org" for number in range(2000)]
    assert list(suppressions.matching(tx, TENANT, "bulk", keys)) == ["user1999@example.org"]


def test_suppressions_in_pages(tx: Tx) -> None:
    for number in range(1, 6):
        suppressions.add(tx, suppression(number, f"u{number}@x.example"))
    assert [one.id for one in suppressions.page(tx, TENANT, after=2, limit=2)] == [3, 4]


# Events


@pytest.fixture
def told(tx: Tx) -> Tx:
    """Ten events: deliveries 1 and 2 of campaign 5 in turn, one of another tenant at the end."""
    queue.insert(tx, [new_delivery(1, campaign_id=5), new_delivery(2)], now_ms=NOW_MS)
    rows = [
        EventRow(NOW_MS + number, TENANT, ("deferred", "delivered")[number % 2], 5 * (number % 2), 1 + number % 2, None)
        for number in range(7)
    ]
    events.append(tx, [*rows, EventRow(NOW_MS, TENANT + 1, "deferred", 0, 0, '{"a":1}')])
    return tx


def cursor_ids(tx: Tx, cursor: int, **conditions: object) -> list[int]:
    return [one.id for one in events.after(tx, TENANT, cursor=cursor, limit=4, **conditions)]  # type: ignore[arg-type]


def test_events_after_a_cursor(told: Tx) -> None:
    first = events.after(told, TENANT, cursor=0, limit=4)
    assert [one.id for one in first] == [1, 2, 3, 4]
    assert first[0] == events.StoredEvent(1, NOW_MS, "accepted", 5, 1, None, "user1@example.org")
    assert cursor_ids(told, 4) == [5, 6, 7, 8]
    assert cursor_ids(told, 8) == [9]
    assert cursor_ids(told, 9) == []


def test_the_newest_events_come_oldest_first(told: Tx) -> None:
    assert cursor_ids(told, -2) == [8, 9]
    assert cursor_ids(told, -100) == [6, 7, 8, 9]
    assert cursor_ids(told, -2, kinds=frozenset({"accepted"})) == [1, 2]


def test_events_that_match_every_condition(told: Tx) -> None:
    assert cursor_ids(told, 0, kinds=frozenset({"delivered", "deferred"})) == [3, 4, 5, 6]
    assert cursor_ids(told, 0, kinds=frozenset({"bounced"})) == []
    assert cursor_ids(told, 0, campaign_id=5) == [1, 4, 6, 8]
    assert cursor_ids(told, 2, delivery_id=1) == [3, 5, 7, 9]
    assert cursor_ids(told, -1, delivery_id=2, kinds=frozenset({"delivered"}), campaign_id=5) == [8]
    assert [one.data for one in events.after(told, TENANT + 1, cursor=0, limit=9)] == ['{"a":1}']


def test_a_number_of_an_event_never_comes_back(told: Tx) -> None:
    told.run("DELETE FROM event WHERE id > 5")
    events.append(told, [EventRow(NOW_MS, TENANT, "deferred", 0, 1, None)])
    assert told.value("SELECT max(id) FROM event") == 11


# Listings


@pytest.fixture
def listed(tx: Tx) -> Tx:
    """Campaign 5 with deliveries 1 to 6, some retried; single message 7."""
    running_campaign(tx, 5, 50, range(1, 7))
    stream = tenants.stream(tx, TENANT, "transactional")
    assert stream
    tenants.flow_of_stream(tx, stream, 51)
    sites.put_site(tx, "k", "mx", [], "gmail", "")
    rows = [new_delivery(one, campaign_id=5, site_id=1, accepted_ms=NOW_MS - one) for one in range(1, 7)]
    queue.insert(tx, rows, now_ms=NOW_MS)
    queue.insert(tx, [new_delivery(7, flow_id=51, site_id=0, address_key="user1@example.org")], now_ms=NOW_MS)
    (here, *_) = [one for one in queue.backlog(tx) if one.flow_id == 50]
    held = queue.claim(tx, here, limit=4, now_ms=NOW_MS, lease_id=1)
    ends = [S.DELIVERED, S.QUEUED, S.QUEUED]
    batch = [
        settlement(one, end, due_ms=NOW_MS + 50, bounce_class="greylisted")
        for one, end in zip(held, ends, strict=False)
    ]
    queue.settle(tx, batch, lease_id=1, now_ms=NOW_MS)
    return tx


def page_ids(tx: Tx, **conditions: object) -> list[int]:
    return [one.id for one in deliveries.page(tx, TENANT, **conditions)]  # type: ignore[arg-type]


def test_deliveries_in_pages(listed: Tx) -> None:
    assert page_ids(listed) == [7, 6, 5, 4, 3, 2, 1]
    assert page_ids(listed, before=5, limit=2) == [4, 3]
    assert page_ids(listed, campaign=(5, 1, 6), limit=2) == [1, 2]
    assert page_ids(listed, campaign=(5, 1, 6), after=2, limit=9) == [3, 4, 5, 6]
    assert page_ids(listed, address_key="user1@example.org") == [7, 1]
    assert page_ids(listed, state=S.DELIVERED) == [1]
    assert page_ids(listed, campaign=(5, 1, 6), state=S.LEASED) == [4]
    assert deliveries.page(listed, TENANT + 1) == []


def test_a_state_is_asked_for_as_it_is_shown(listed: Tx) -> None:
    """A queued delivery of a paused campaign is shown as paused, so that is how it is found."""
    assert page_ids(listed, state=S.QUEUED) == [7, 6, 5, 3, 2]
    tenants.set_flow_state(listed, 50, FlowState.PAUSED)
    assert page_ids(listed, state=S.QUEUED) == [7]
    assert page_ids(listed, state=S.PAUSED) == [6, 5, 3, 2]
    tenants.set_flow_state(listed, 50, FlowState.CANCELLED)
    assert page_ids(listed, state=S.PAUSED) == []
    assert page_ids(listed, state=S.CANCELLED, campaign=(5, 1, 6)) == [2, 3, 5, 6]


def test_one_delivery_with_its_names(listed: Tx) -> None:
    found = deliveries.one(listed, TENANT, 1)
    assert found
    assert (found.stream, found.state, found.attempts, found.bounce_class, found.site_key, found.provider) == (
        "bulk",
        S.DELIVERED,
        1,
        "greylisted",
        "k",
        "gmail",
    )
    assert deliveries.one(listed, TENANT + 1, 1) is None


def test_the_backlog_by_site_and_reason(listed: Tx) -> None:
    rows = {
        (one.site_key, one.state, one.deferred, one.bounce_class): one for one in deliveries.backlog(listed, TENANT)
    }
    assert {key: one.n for key, one in rows.items()} == {
        ("k", S.QUEUED, 0, ""): 2,
        ("k", S.QUEUED, 1, "greylisted"): 2,
        ("k", S.LEASED, 0, ""): 1,
        ("", S.QUEUED, 0, ""): 1,
    }
    retries = rows["k", S.QUEUED, 1, "greylisted"]
    assert (retries.provider, retries.next_due_ms, retries.oldest_ms) == ("gmail", NOW_MS + 50, NOW_MS - 3)


# Streams, sending domains, logins, answers, contents


def test_streams_and_flows(tx: Tx) -> None:
    tenants.ensure_default(tx)
    assert tenants.stream_names(tx, TENANT) == ["transactional", "bulk"]
    bulk, urgent = tenants.stream(tx, TENANT, "bulk"), tenants.stream(tx, TENANT, "transactional")
    assert bulk
    assert urgent
    assert urgent.priority < bulk.priority
    assert tenants.stream(tx, TENANT, "other") is None
    assert tenants.stream_by_id(tx, bulk.id) == bulk
    assert tenants.flow_of_stream(tx, bulk, 70) == tenants.flow_of_stream(tx, bulk, 71) == 70
    assert tenants.flow(tx, 70) == tenants.Flow(70, TENANT, bulk.id, 0, bulk.priority, 1, FlowState.ACTIVE)
    assert tenants.flow(tx, 71) is None


def test_a_sending_domain_and_its_keys(tx: Tx) -> None:
    domain = sending.SendingDomain(1, TENANT, "a.example", "bounce.a.example", NOW_MS)
    keys = [sending.DkimKey(number, 1, f"s{number}", "rsa", b"sealed", "v=DKIM1", 1, NOW_MS) for number in (11, 12)]
    assert sending.add(tx, domain, keys)
    assert not sending.add(tx, domain._replace(id=2, tenant_id=2), keys), "a domain belongs to one tenant"
    assert sending.by_name(tx, "a.example") == domain
    assert sending.keys(tx, 1) == keys
    assert sending.of_tenant(tx, TENANT) == [domain]
    assert sending.of_tenant(tx, TENANT + 1) == []
    sending.remove(tx, 1)
    assert sending.by_name(tx, "a.example") is None
    assert sending.keys(tx, 1) == []


def test_tokens_and_logins(tx: Tx) -> None:
    token = access.Token(1, TENANT, "ci", b"h1", ("send", "read"), NOW_MS)
    access.add_token(tx, token)
    assert access.token_by_hash(tx, b"h1") == token
    assert access.token_by_hash(tx, b"h2") is None
    assert access.tokens(tx, TENANT) == [token]
    assert not access.remove_token(tx, TENANT + 1, 1), "of another tenant"
    assert access.remove_token(tx, TENANT, 1)
    assert not access.remove_token(tx, TENANT, 1)
    login = access.Credential(1, TENANT, "app", b"h", "transactional", ("a.example",), NOW_MS)
    assert access.add_credential(tx, login)
    assert not access.add_credential(tx, login._replace(id=2))
    assert access.credential_by_username(tx, "app") == login
    assert access.credential_by_username(tx, "App") is None
    assert access.credentials(tx, TENANT) == [login]
    assert not access.remove_credential(tx, TENANT + 1, 1)
    assert access.remove_credential(tx, TENANT, 1)
    assert access.credential_by_username(tx, "app") is None


def test_answers_are_kept_for_a_while(tx: Tx) -> None:
    access.remember(tx, TENANT, "k", b"h", "{}", NOW_MS)
    access.remember(tx, TENANT + 1, "k", b"h2", "[]", NOW_MS + 1)
    assert access.remembered(tx, TENANT, "k") == (b"h", "{}")
    assert access.remembered(tx, TENANT, "other") is None
    assert access.forget_answers(tx, NOW_MS + 1) == 1
    assert access.remembered(tx, TENANT, "k") is None
    assert access.remembered(tx, TENANT + 1, "k") == (b"h2", "[]")


def test_a_content_comes_back_whole(tx: Tx) -> None:
    info = contents.ContentInfo(
        from_domain="a.example",
        subject="Grüße",
        message_id="<x@a.example>",
        tags=("t",),
        metadata={"k": "v"},
        eightbit=True,
    )
    content = contents.Content(1, TENANT, "raw", bytes(range(256)), info)
    contents.put(tx, content, now_ms=NOW_MS)
    contents.put(tx, content._replace(id=2), now_ms=NOW_MS)
    assert contents.get(tx, 1) == content
    assert contents.info(tx, 1) == info
    assert contents.get(tx, 3) is None
    assert contents.info(tx, 3) is None
    assert contents.by_message_id(tx, TENANT, "<x@a.example>") == 2
    assert contents.by_message_id(tx, TENANT, "<y@a.example>") is None
    assert contents.by_message_id(tx, TENANT + 1, "<x@a.example>") is None
