"""Settling: one outcome becomes state, event, suppression and notification, together or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from mailfleet.engine.attempt import Attempt
from mailfleet.engine.journal import replay
from mailfleet.engine.requests import EnvelopeRecipient, SubmittedMessage
from mailfleet.policy.outcome import Action, Failure, Outcome, Phase
from mailfleet.smtp.reply import Reply
from mailfleet.store import contents, queue
from tests.engine.plant import DOMAIN, NOW_MS, OWNER, Plant, Works, running
from tests.store.rows import check_laws

DAY_S = 86_400
MESSAGE = b"From: me@shop.example\r\nTo: b@x.example\r\nSubject: hi\r\n\r\nthe secret body\r\n"


def said(code: int, *lines: str, phase: Phase = Phase.RCPT) -> Outcome:
    return Outcome(phase, reply=Reply(code, lines), mx_host="mx.x.example", remote_ip="127.0.0.1")


TAKEN = said(250, "2.0.0 queued as X1", phase=Phase.MESSAGE)
UNKNOWN = said(550, "5.1.1 user unknown")
FULL = said(452, "4.2.2 mailbox full")


async def attempt(works: Works, outcome: Outcome, **values: Any) -> Action:
    """Claim the one delivery that is due, come to this outcome, and wait for the commit."""
    (claimed,) = await works.plant.claim_all(works.lease_id)
    verdict = await works.settler.take(Attempt(claimed, outcome, "", **values))
    await works.settler.drained()
    await works.plant.database.read(check_laws)
    return verdict.action


async def submit(plant: Plant, *recipients: EnvelopeRecipient, ret: str = "") -> None:
    """A message that came over SMTP."""
    message = SubmittedMessage(
        "me@shop.example", recipients or (EnvelopeRecipient("b@x.example"),), MESSAGE, ret=ret, envid="E1"
    )
    await plant.acceptor.submit(OWNER, message)
    await plant.locate_all()


async def notices(plant: Plant) -> list[str]:
    """The notifications that were queued, as text."""
    found = await plant.rows("SELECT content_id FROM delivery WHERE address = 'me@shop.example' ORDER BY id")
    made = [await plant.database.read(lambda tx, one=one: contents.get(tx, one)) for (one,) in found]  # type: ignore[misc]
    return [one.body.decode() for one in made if one]


async def test_a_250_is_delivered(plant: Plant) -> None:
    await plant.upload("a@x.example")
    await plant.locate_all()
    async with running(Works(plant)) as works:
        assert await attempt(works, TAKEN, transcript="> MAIL", tls="TLSv1.3", seconds=0.25) is Action.DELIVER
    assert await plant.states() == {"a@x.example": "delivered"}
    kind, data = (await plant.events("a@x.example"))[-1]
    assert kind == "delivered"
    assert data == {
        "attempt": 1,
        "phase": "message",
        "reply": "250 2.0.0 queued as X1",
        "class": "none",
        "fault": "none",
        "rule": "delivered",
        "mx": "mx.x.example",
        "ip": "127.0.0.1",
        "tls": "TLSv1.3",
        "seconds": 0.25,
        "transcript": "> MAIL",
    }
    assert (await plant.kinds())[-1] == "campaign_finished"


async def test_a_deferral_waits_and_says_until_when(plant: Plant) -> None:
    await plant.upload("a@x.example")
    await plant.locate_all()
    async with running(Works(plant)) as works:
        assert await attempt(works, FULL) is Action.DEFER
        ((due_ms, reason),) = await plant.rows("SELECT due_ms, reason FROM delivery")
        assert due_ms > NOW_MS
        assert reason == "452 4.2.2 mailbox full"
        assert (await plant.events())[-1][1]["due_at"].startswith("2026-01-01T00")
        assert await plant.claim_all(works.lease_id) == []
        plant.clock.skip((due_ms - NOW_MS) / 1000)
        assert await attempt(works, TAKEN) is Action.DELIVER
    assert (await plant.events())[-2][1]["attempt"] == 2


async def test_a_clock_that_is_set_back_before_the_commit_puts_no_retry_off(plant: Plant) -> None:
    await plant.upload("a@x.example")
    await plant.locate_all()
    async with running(Works(plant)) as works:
        (claimed,) = await plant.claim_all(works.lease_id)
        await works.settler.take(Attempt(claimed, FULL, ""))
        plant.clock.at_ms -= 3_600_000
        await works.settler.drained()
    ((due_ms,),) = await plant.rows("SELECT due_ms FROM delivery")
    assert plant.clock.now_ms() < due_ms < NOW_MS


async def test_a_retry_that_is_written_just_after_the_clock_was_set_back_keeps_its_wait(plant: Plant) -> None:
    await plant.upload("before@x.example", "after@x.example")
    await plant.locate_all()
    async with running(Works(plant)) as works:
        claimed = {one.address: one for one in await plant.claim_all(works.lease_id)}
        await plant.maintainer.follow_the_clock()
        await works.settler.take(Attempt(claimed["before@x.example"], FULL, ""))
        await works.settler.drained()
        plant.clock.at_ms -= 3_600_000
        await works.settler.take(Attempt(claimed["after@x.example"], FULL, ""))
        await works.settler.drained()
    found = dict(await plant.rows("SELECT address, due_ms FROM delivery"))
    await plant.maintainer.follow_the_clock()
    now = dict(await plant.rows("SELECT address, due_ms FROM delivery"))
    assert now["after@x.example"] == found["after@x.example"]
    earlier_ms = found["before@x.example"] - now["before@x.example"]
    assert earlier_ms == pytest.approx(3_600_000, abs=60_000)  # the wall clock of tests stands still


async def test_it_expires_at_its_time_and_not_before(plant: Plant) -> None:
    await plant.upload("a@x.example")
    await plant.locate_all()
    async with running(Works(plant)) as works:
        for _ in range(200):
            ((state, due_ms, expires_ms),) = await plant.rows("SELECT state, due_ms, expires_ms FROM delivery")
            if state != 1:
                break
            assert due_ms <= expires_ms == NOW_MS + DAY_S * 1000
            plant.clock.skip(max(0, due_ms - plant.clock.now_ms()) / 1000)
            await attempt(works, FULL)
    assert await plant.states() == {"a@x.example": "expired"}
    assert plant.clock.now_ms() == NOW_MS + DAY_S * 1000, "there is one last attempt at the expiry"
    assert (await plant.kinds())[-2:] == ["expired", "campaign_finished"]


async def test_a_hard_bounce_suppresses_the_address_in_the_same_commit(plant: Plant) -> None:
    await plant.upload("Ann@x.example")
    await plant.locate_all()
    async with running(Works(plant)) as works:
        assert await attempt(works, UNKNOWN) is Action.BOUNCE
    assert await plant.states() == {"Ann@x.example": "bounced"}
    page = await plant.manager.suppressions(OWNER, None, 10)
    ((address, stream, reason, evidence),) = [(one.address, one.stream, one.reason, one.evidence) for one in page.items]
    assert (address, stream, reason) == ("ann@x.example", None, "hard-bounce")
    assert evidence == "550 5.1.1 user unknown"
    assert page.items[0].origin.startswith("delivery dlv_"), "as it can be traced"
    assert await plant.kinds() == [
        "campaign_created",
        "accepted",
        "bounced",
        "suppression_added",
        "campaign_finished",
    ] or (await plant.kinds()) == ["accepted", "campaign_created", "bounced", "suppression_added", "campaign_finished"]
    again = await plant.upload("ANN@x.example", "bob@x.example")
    assert again.suppressed == 1
    assert (await plant.states())["ANN@x.example"] == "suppressed"


async def test_a_failure_without_a_reply_is_told_in_words(plant: Plant) -> None:
    await plant.upload("a@x.example")
    await plant.locate_all()
    async with running(Works(plant)) as works:
        outcome = Outcome(Phase.CONNECT, failure=Failure.CONNECTION_REFUSED, detail="nobody listens")
        assert await attempt(works, outcome) is Action.DEFER
    kind, data = (await plant.events())[-1]
    assert (kind, data["failure"], data["detail"], "reply" in data) == (
        "deferred",
        "connection-refused",
        "nobody listens",
        False,
    )
    ((reason,),) = await plant.rows("SELECT reason FROM delivery")
    assert reason == "nobody listens"


async def test_a_batch_is_settled_in_one_commit_and_leaves_the_journal(plant: Plant) -> None:
    await plant.upload(*(f"u{number}@x.example" for number in range(40)))
    await plant.locate_all()
    async with running(Works(plant), settle=False) as works:
        held = await plant.claim_all(works.lease_id)
        for one in held:
            works.journal.started(one.id)
            works.journal.accepted(one.id, "250 ok")
            await works.settler.take(Attempt(one, TAKEN, ""))
        before = plant.database.commits
        async with running(works):
            await works.settler.drained()
        assert plant.database.commits == before + 1
        found = replay(plant.folder, 0, works.lease_id)
        assert found.accepted == {} or not found.segments or all(one.id for one in held)
    assert set((await plant.states()).values()) == {"delivered"}
    assert not list(plant.folder.glob("journal-*"))


async def test_what_another_process_took_over_is_left_to_it(plant: Plant) -> None:
    await plant.upload("a@x.example")
    await plant.locate_all()
    async with running(Works(plant)) as works:
        (claimed,) = await plant.claim_all(works.lease_id)
        await plant.database.write(lambda tx: queue.release(tx, works.lease_id, now_ms=NOW_MS))
        await works.settler.take(Attempt(claimed, UNKNOWN, ""))
        await works.settler.drained()
    assert await plant.states() == {"a@x.example": "queued"}
    assert (await plant.manager.suppressions(OWNER, None, 10)).items == [], "nothing beside it either"


# Notifications


async def test_a_bounce_is_told_to_the_submitter_once(plant: Plant) -> None:
    await submit(plant)
    async with running(Works(plant)) as works:
        await attempt(works, UNKNOWN)
    (notice,) = await notices(plant)
    assert "Action: failed" in notice
    assert "Status: 5.1.1" in notice
    assert "Original-Envelope-Id: E1" in notice
    assert "550 5.1.1 user unknown" in notice
    assert "the secret body" not in notice, "without RET=FULL only the header comes back"
    assert (await plant.kinds("b@x.example")) == ["accepted", "bounced", "suppression_added", "dsn_sent"]
    ((envelope,),) = await plant.rows("SELECT envelope FROM delivery WHERE address = 'me@shop.example'")
    assert envelope == '{"reverse_path":""}', "the null reverse-path, so that it causes no other"


@pytest.mark.parametrize(
    ("notify", "outcome", "action"),
    [
        (None, UNKNOWN, "failed"),
        (frozenset({"FAILURE"}), UNKNOWN, "failed"),
        (frozenset({"SUCCESS"}), UNKNOWN, ""),
        (frozenset({"NEVER"}), UNKNOWN, ""),
        (None, TAKEN, ""),
        (frozenset({"SUCCESS"}), TAKEN, "relayed"),
        (frozenset({"FAILURE", "DELAY"}), TAKEN, ""),
    ],
)
async def test_what_notify_asks_for(plant: Plant, notify: frozenset[str] | None, outcome: Outcome, action: str) -> None:
    await submit(plant, EnvelopeRecipient("b@x.example", notify, "rfc822;bee@x.example"))
    async with running(Works(plant)) as works:
        await attempt(works, outcome)
    found = await notices(plant)
    assert len(found) == bool(action)
    for notice in found:
        assert f"Action: {action}" in notice
        assert "Original-Recipient: rfc822; bee@x.example" in notice


async def test_success_that_the_remote_reports_itself_is_not_told_twice(plant: Plant) -> None:
    await submit(plant, EnvelopeRecipient("b@x.example", frozenset({"SUCCESS"})))
    async with running(Works(plant)) as works:
        await attempt(works, TAKEN, dsn_passed_on=True)
    assert await notices(plant) == []


async def test_the_whole_message_comes_back_where_asked_for(plant: Plant) -> None:
    await submit(plant, ret="FULL")
    async with running(Works(plant)) as works:
        await attempt(works, UNKNOWN)
    assert "the secret body" in (await notices(plant))[0]


async def test_a_delay_is_told_once(plant: Plant) -> None:
    await submit(plant, EnvelopeRecipient("b@x.example", frozenset({"DELAY", "FAILURE"})))
    async with running(Works(plant)) as works:
        for _ in range(12):
            await plant.database.write(lambda tx: tx.run("UPDATE delivery SET state = 3 WHERE address LIKE 'me@%'"))
            await plant.database.write(lambda tx: tx.run("UPDATE delivery SET due_ms = 0 WHERE state = 1"))
            plant.clock.skip(3600)
            (claimed,) = await plant.claim_all(works.lease_id)
            await works.settler.take(Attempt(claimed, FULL, ""))
            await works.settler.drained()
    (notice,) = await notices(plant)
    assert "Action: delayed" in notice
    assert "Will-Retry-Until" in notice
    assert (await plant.kinds("b@x.example")).count("dsn_sent") == 1


async def test_mail_by_api_owes_no_notification(plant: Plant) -> None:
    await plant.send("b@x.example")
    await plant.locate_all()
    async with running(Works(plant)) as works:
        await attempt(works, UNKNOWN)
    assert len(await plant.states()) == 1


async def test_the_notification_of_a_notification_is_never_sent(plant: Plant) -> None:
    await submit(plant)
    async with running(Works(plant)) as works:
        await attempt(works, UNKNOWN)
        await plant.locate_all()
        await attempt(works, UNKNOWN)
    assert await plant.states() == {"b@x.example": "bounced", "me@shop.example": "bounced"}


async def test_a_notification_that_cannot_be_made_does_not_undo_a_250(plant: Plant) -> None:
    """Whatever is wrong with it: the remote has the message, and giving that up would send it again."""
    await submit(plant, EnvelopeRecipient("b@x.example", frozenset({"SUCCESS"})))
    await plant.database.write(
        lambda tx: tx.run("UPDATE delivery SET envelope = replace(envelope, 'me@shop.example', 'no address')")
    )
    async with running(Works(plant)) as works:
        assert await attempt(works, TAKEN) is Action.DELIVER
    assert await plant.states() == {"b@x.example": "delivered"}
    assert DOMAIN in (await plant.manager.domains(OWNER))[0].domain
