"""``trace``, ``queue`` and ``events``."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import StreamingResponse

from tests.cli.conftest import delivery_view, event_view, ndjson

STORY = {"delivery": delivery_view(), "events": [event_view(1, kind="accepted", data={"size": 12}), event_view(2)]}


def test_a_story_has_times_words_meaning_and_dialogue(mailfleet: Any, server: Any) -> None:
    server.answer("GET /v1/trace", {"items": [STORY]})
    result = mailfleet("trace", "unknown1@gmail.com", "--data", str(server.data))
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0] == "unknown1@gmail.com  bounced"
    assert "delivery     dlv_0000000000007" in lines
    assert any(
        line.startswith("2026-01-31 09:00:00.123  bounced") and "550 5.1.1 No such user" in line for line in lines
    )
    assert "try 1 to gmail-smtp-in.l.google.com [127.0.10.1], TLSv1.3, ended in phase rcpt after 0.2 s" in lines
    assert "provider     gmail at gmail-smtp-in.l.google.com +1" in lines
    assert "unknown-user, fault: recipient, rule: gmail-no-such-user" in lines
    assert "+2 > RCPT TO:<unknown1@gmail.com>" in lines
    assert "\x1b" not in result.stdout
    assert server.queries("GET /v1/trace") == [{"what": "unknown1@gmail.com"}]


def test_a_story_in_json_is_one_object_a_line(mailfleet: Any, server: Any) -> None:
    server.answer("GET /v1/trace", {"items": [STORY, STORY]})
    result = mailfleet("trace", "x@gmail.com", "--json", "--data", str(server.data))
    assert [json.loads(line) for line in result.stdout.splitlines()] == [STORY, STORY]


def test_dialogues_can_be_left_out(mailfleet: Any, server: Any) -> None:
    server.answer("GET /v1/trace", {"items": [STORY]})
    assert "RCPT TO" not in mailfleet("trace", "x", "--no-transcripts", "--data", str(server.data)).stdout


def test_what_nobody_knows_exits_1(mailfleet: Any, server: Any) -> None:
    server.answer("GET /v1/trace", {"items": []})
    result = mailfleet("trace", "nobody@here", "--data", str(server.data))
    assert result.exit_code == 1
    assert "nobody@here: nothing is known of it" in result.stderr


def site(**changed: Any) -> dict[str, Any]:
    return {
        "provider": "gmail", "site": "5:gmail-smtp-in.l.google.com", "queued": 1200, "deferred": 40, "leased": 10,
        "oldest_age_s": 75.0, "next_due_in_s": -3.0, "reasons": {"rate-limited": 30, "mailbox-full": 10},
    } | changed  # fmt: skip


def test_the_queue_by_provider_site_age_and_reason(mailfleet: Any, server: Any) -> None:
    sites = [site(provider="small", queued=1, leased=0, next_due_in_s=None, reasons={}), site()]
    view = {"queued": 1201, "deferred": 40, "leased": 10, "sites": sites}
    server.answer("GET /v1/queue", view)
    result = mailfleet("queue", "--data", str(server.data))
    lines = result.stdout.splitlines()
    assert lines[0] == "1,201 queued, 40 of them deferred; 10 being sent now."
    assert lines[3].split() == [
        "gmail", "gmail-smtp-in.l.google.com", "1,200", "40", "10", "1", "min", "15", "s", "now", "rate-limited", "30,",
        "mailbox-full", "10",
    ]  # fmt: skip
    assert json.loads(mailfleet("queue", "--json", "--data", str(server.data)).stdout) == view


def test_a_count_that_is_old_or_not_of_all_sites_says_so(mailfleet: Any, server: Any) -> None:
    view = {"queued": 1201, "deferred": 40, "leased": 10, "sites": [site()], "further_sites": 1234, "age_s": 42.0}
    server.answer("GET /v1/queue", view)
    lines = mailfleet("queue", "--data", str(server.data)).stdout.splitlines()
    assert lines[-2:] == ["1,234 more sites have a shorter backlog.", "Counted 42 s ago."]


def test_every_event_is_listed_page_by_page(mailfleet: Any, server: Any) -> None:
    server.answer(
        "GET /v1/events",
        {"items": [event_view(1), event_view(2)], "next": "2"},
        {"items": [event_view(3)], "next": None},
    )
    result = mailfleet("events", "--json", "--kind", "bounced", "--kind", "deferred", "--data", str(server.data))
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [1, 2, 3]
    assert [query["after"] for query in server.queries("GET /v1/events")] == ["0", "2"]


def test_the_newest_events(mailfleet: Any, server: Any) -> None:
    server.answer("GET /v1/events", {"items": [event_view(9)], "next": "9"})
    result = mailfleet("events", "--last", "1", "--data", str(server.data))
    assert result.stdout.startswith("2026-01-31 09:00:00.123  bounced            unknown1@gmail.com  550 5.1.1")
    assert server.queries("GET /v1/events") == [{"tail": "true", "limit": "1"}]


def test_following_goes_on_after_the_last_event_when_the_stream_breaks(
    mailfleet: Any, server: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("mailfleet.cli.find.time.sleep", lambda _: None)

    async def broken() -> Any:
        yield json.dumps(event_view(1)).encode() + b"\n\n"
        raise ConnectionResetError

    server.answer(
        "GET /v1/events",
        StreamingResponse(broken(), media_type="application/x-ndjson"),
        ndjson(event_view(2), event_view(3)),
    )
    result = mailfleet("events", "--follow", "--limit", "3", "--json", "--data", str(server.data))
    assert result.exit_code == 0
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [1, 2, 3]
    asked = server.queries("GET /v1/events")
    assert asked[0] == {"follow": "true", "tail": "true", "limit": "10"}
    assert asked[1] == {"follow": "true", "after": "1"}
    assert "waiting for it to come back" in result.stderr
