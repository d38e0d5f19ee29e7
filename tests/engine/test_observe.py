"""Finding out: the story of a message by every name it has, events by cursor, listings, the backlog."""

from __future__ import annotations

import pytest

from mailfleet.base import ids
from mailfleet.base.errors import InputError, NotFoundError
from mailfleet.base.ids import TenantId
from mailfleet.engine import observe
from mailfleet.engine.attempt import Attempt
from mailfleet.engine.observe import MAX_EVENTS_LOOKED_AT
from mailfleet.engine.requests import Actor, EnvelopeRecipient, MessageRequest, SubmittedMessage
from mailfleet.engine.views import DeliveryPage, EventPage
from mailfleet.policy.outcome import Outcome, Phase
from mailfleet.smtp.reply import Reply
from mailfleet.store.database import Tx
from mailfleet.store.events import EventRow, append
from tests.engine.plant import DOMAIN, LITERAL, OWNER, Plant, Works, running

STRANGER = Actor(TenantId(2))
RAW = b"From: a@shop.example\r\nTo: b@x.example\r\nSubject: hi\r\n%b\r\nbody\r\n"
FULL = Outcome(Phase.RCPT, reply=Reply(452, ("4.2.2 mailbox full",)))


async def traced(plant: Plant, what: str) -> list[str]:
    """The recipients whose stories are told."""
    return [one.delivery.recipient for one in await plant.observer.trace(OWNER, what)]


async def events(plant: Plant, after: int, limit: int = 100, actor: Actor = OWNER, **conditions: str) -> EventPage:
    kinds = frozenset(filter(None, conditions.pop("kinds", "").split()))
    return await plant.observer.events(
        actor,
        after=after,
        limit=limit,
        kinds=kinds,
        campaign=conditions.get("campaign"),
        delivery=conditions.get("delivery"),
    )


async def listed(plant: Plant, limit: int = 100, actor: Actor = OWNER, **conditions: str | None) -> DeliveryPage:
    wanted = {"campaign": None, "state": None, "recipient": None, "after": None, **conditions}
    return await plant.observer.deliveries(actor, limit=limit, **wanted)


# Traces


async def test_a_message_by_api_is_found_by_every_name_it_has(plant: Plant) -> None:
    accepted = await plant.acceptor.send(
        OWNER, MessageRequest(sender=f"a@{DOMAIN}", to=["Ann@x.example"], cc=["bob@x.example"], subject="s", text="t")
    )
    delivery = accepted.deliveries[0].delivery
    assert await traced(plant, "ann@X.example") == ["Ann@x.example"]
    assert await traced(plant, delivery) == await traced(plant, f" {delivery.lower()} ") == ["Ann@x.example"]
    for name in (accepted.message, accepted.message_id, accepted.message_id.strip("<>")):
        assert sorted(await traced(plant, name)) == ["Ann@x.example", "bob@x.example"], name


@pytest.mark.parametrize("field", [b"Message-ID: <my.own@id.example>\r\n", b""])
async def test_a_submitted_message_is_found_by_every_name_it_has(plant: Plant, field: bytes) -> None:
    queue_id = await plant.acceptor.submit(
        OWNER, SubmittedMessage(f"a@{DOMAIN}", [EnvelopeRecipient("b@x.example")], RAW % field)
    )
    (story,) = await plant.observer.trace(OWNER, queue_id)
    if field:
        assert story.delivery.message_id == "<my.own@id.example>"
    for name in (
        "b@x.example",
        story.delivery.message_id,
        story.delivery.message_id.strip("<>"),
        story.delivery.delivery,
    ):
        assert await traced(plant, name) == ["b@x.example"], name


async def test_a_campaigns_copy_is_found_by_its_message_id(plant: Plant) -> None:
    await plant.upload("a@x.example", "b@x.example")
    (story,) = await plant.observer.trace(OWNER, "b@x.example")
    assert await traced(plant, story.delivery.message_id) == ["b@x.example"]
    assert await traced(plant, story.delivery.message_id.strip("<>")) == ["b@x.example"]


async def test_a_story_is_whole_and_in_order(plant: Plant) -> None:
    (delivery,) = await plant.send("a@x.example", tags=["receipt"], metadata={"order": "7"})
    await plant.locate_all()
    async with running(Works(plant)) as works:
        (claimed,) = await plant.claim_all(works.lease_id)
        await works.settler.take(Attempt(claimed, FULL, "", transcript="> RCPT TO\n< 452"))
        await works.settler.drained()
    (story,) = await plant.observer.trace(OWNER, delivery)
    assert [one.kind for one in story.events] == ["accepted", "deferred"]
    assert story.events[1].data["transcript"] == "> RCPT TO\n< 452"
    view = story.delivery
    assert (view.state, view.attempts, view.reason) == ("queued", 1, "452 4.2.2 mailbox full")
    assert (view.tags, view.metadata, view.stream, view.campaign) == (
        ["receipt"],
        {"order": "7"},
        "transactional",
        None,
    )
    assert view.due_at
    assert view.due_at > view.created_at
    assert view.site == f"0:{LITERAL}"


async def test_newest_stories_first_and_not_too_many(plant: Plant) -> None:
    made = [(await plant.send("a@x.example"))[0] for _ in range(25)]
    stories = await plant.observer.trace(OWNER, "a@x.example")
    assert [one.delivery.delivery for one in stories] == made[:4:-1]


@pytest.mark.parametrize(
    "what",
    [
        "nobody@x.example",
        "dlv_nobody@x.example",
        "cnt_7@x.example",
        "dlv_0000000000007",
        "cnt_0000000000007",
        "<nothing@x.example>",
        "<dlv_strange@x.example>",
        "<dlv_0000000000007@shop.example>",
    ],
)
async def test_what_nothing_is_known_of(plant: Plant, what: str) -> None:
    assert await plant.observer.trace(OWNER, what) == []


@pytest.mark.parametrize("what", ["", "hello", "dlv_7", "cnt_", "@", "cmp_0000000000007"])
async def test_what_cannot_be_traced(plant: Plant, what: str) -> None:
    with pytest.raises(InputError) as caught:
        await plant.observer.trace(OWNER, what)
    assert caught.value.mend


async def test_other_tenants_find_nothing(plant: Plant) -> None:
    (delivery,) = await plant.send("a@x.example")
    (story,) = await plant.observer.trace(OWNER, delivery)
    for name in (delivery, "a@x.example", story.delivery.message_id):
        assert await plant.observer.trace(STRANGER, name) == []
    assert (await listed(plant, actor=STRANGER)).items == []
    assert (await events(plant, 0, actor=STRANGER)).items == []
    assert (await plant.observer.queue(STRANGER)).queued == 0


# Events


async def test_events_are_followed_by_cursor(plant: Plant) -> None:
    for number in range(7):
        await plant.send(f"u{number}@x.example")
    found, after = [], 0
    while (page := await events(plant, after, limit=3)).items:
        found += [one.recipient for one in page.items]
        assert page.next
        after = int(page.next)
    assert found == [f"u{number}@x.example" for number in range(7)]
    assert (await events(plant, after)).next is None
    newest = await events(plant, -1, limit=2)
    assert [one.recipient for one in newest.items] == ["u5@x.example", "u6@x.example"]


async def test_events_by_kind_campaign_and_delivery(plant: Plant) -> None:
    (delivery,) = await plant.send("a@x.example")
    answer = await plant.upload("b@x.example")
    assert answer.campaign
    name = answer.campaign.campaign
    assert [one.kind for one in (await events(plant, 0, delivery=delivery)).items] == ["accepted"]
    assert [one.kind for one in (await events(plant, 0, campaign=name)).items] == ["accepted", "campaign_created"]
    (only,) = (await events(plant, 0, campaign=name, kinds="campaign_created bounced")).items
    assert (only.campaign, only.delivery, only.recipient, only.data) == (name, None, None, {})
    assert only.at == "2026-01-01T00:00:00.000Z"
    with pytest.raises(InputError):
        await events(plant, 0, campaign=delivery)


# Listings


async def test_deliveries_in_pages(plant: Plant) -> None:
    answer = await plant.upload(*(f"u{number}@x.example" for number in range(5)))
    assert answer.campaign
    name = answer.campaign.campaign
    single = await plant.send("u1@x.example")
    found, after = [], None
    while True:
        page = await listed(plant, 2, campaign=name, after=after)
        found += [one.recipient for one in page.items]
        after = page.next
        if after is None:
            break
    assert found == [f"u{number}@x.example" for number in range(5)], "oldest first within a campaign"
    newest = await listed(plant, 2)
    assert newest.items[0].delivery == single[0]
    assert newest.next
    assert [one.recipient for one in (await listed(plant, 2, after=newest.next)).items] == [
        "u3@x.example",
        "u2@x.example",
    ]
    assert len((await listed(plant, recipient="U1@x.example")).items) == 2
    assert len((await listed(plant, recipient="U1@x.example", campaign=name)).items) == 1
    assert (await listed(plant, state="delivered")).items == []
    assert len((await listed(plant, state="queued")).items) == 6


async def test_listings_that_cannot_be(plant: Plant) -> None:
    with pytest.raises(InputError, match="use one of: queued, leased"):
        await listed(plant, state="waiting")
    with pytest.raises(InputError):
        await listed(plant, recipient="nobody")
    with pytest.raises(InputError):
        await listed(plant, after="7")
    with pytest.raises(NotFoundError):
        await listed(plant, campaign=ids.public("cmp", 7))


# The backlog


async def test_the_backlog_by_site_age_and_reason(plant: Plant) -> None:
    assert (await plant.observer.queue(OWNER)).sites == []
    await plant.upload(*(f"u{number}@x.example" for number in range(6)))
    await plant.locate_all()
    await plant.send("later@y.example")
    async with running(Works(plant)) as works:
        held = await plant.claim_all(works.lease_id)
        for one in held[:2]:
            await works.settler.take(Attempt(one, FULL, ""))
        await works.settler.drained()
        plant.clock.skip(10)
        view = await plant.observer.queue(OWNER)
    assert (view.queued, view.deferred, view.leased) == (3, 2, 4)
    here, unknown = view.sites
    assert (here.site, here.queued, here.deferred, here.leased, here.oldest_age_s) == (f"0:{LITERAL}", 2, 2, 4, 10)
    assert here.reasons == {"mailbox-full": 2}
    assert here.next_due_in_s
    assert (unknown.site, unknown.queued, unknown.next_due_in_s, unknown.reasons) == ("", 1, 0, {})


async def test_health_says_why_nothing_is_taken(plant: Plant) -> None:
    assert (await plant.observer.health()).ok
    plant.full = "the disk is full"
    health = await plant.observer.health()
    assert (health.ok, health.reason, health.sandbox) == (False, "the disk is full", False)


# Rare things in long lists


async def test_a_page_of_rare_events_looks_at_a_bounded_number(plant: Plant) -> None:
    count = MAX_EVENTS_LOOKED_AT + 3000

    def happen(tx: Tx) -> None:
        rows = [EventRow(0, 1, "delivered", 0, 0, None)] * count
        append(tx, [EventRow(0, 1, "bounced", 0, 0, None), *rows, EventRow(0, 1, "bounced", 0, 0, None), *rows[:9]])

    await plant.database.write(happen)
    newest = await events(plant, -1, kinds="bounced")
    assert len(newest.items) == 1
    assert newest.next == str(newest.items[0].id + 9), "a follower goes on from the end"
    page = await events(plant, 0, kinds="bounced")
    assert [one.id for one in page.items] == [newest.items[0].id - count - 1]
    empty_or_last, pages = page, 1
    while empty_or_last.next is not None:
        page, empty_or_last, pages = (
            empty_or_last,
            await events(plant, int(empty_or_last.next), kinds="bounced"),
            pages + 1,
        )
    assert page.items == newest.items
    assert pages == 3


async def test_a_page_of_events_of_a_kind_is_full_and_goes_on(plant: Plant) -> None:
    kinds = ["bounced", "delivered"] * 5
    await plant.database.write(lambda tx: append(tx, [EventRow(0, 1, kind, 0, 0, None) for kind in kinds]))
    after, seen = 0, []
    while (page := await events(plant, after, limit=2, kinds="bounced")).items:
        assert len(page.items) <= 2
        seen += [one.id for one in page.items]
        after = int(page.next or 0)
    assert len(seen) == len(set(seen)) == 5


async def test_deliveries_of_a_rare_state_are_looked_for_in_steps(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "_STEP", 4)
    monkeypatch.setattr(observe, "MAX_DELIVERIES_LOOKED_AT", 8)
    await plant.upload(*(f"u{number}@x.example" for number in range(20)))
    rows = await plant.database.read(lambda tx: tx.rows("SELECT id FROM delivery ORDER BY id"))
    chosen = [rows[number][0] for number in (0, 1, 19)]
    await plant.database.write(lambda tx: tx.run("UPDATE delivery SET state = 5 WHERE id IN (?, ?, ?)", tuple(chosen)))
    after, seen, pages = None, [], 0
    while True:
        page = await listed(plant, state="expired", after=after)
        seen += [one.delivery for one in page.items]
        after, pages = page.next, pages + 1
        if after is None:
            break
    assert seen == [ids.public("dlv", one) for one in reversed(chosen)]
    assert pages >= 3
    assert [one.delivery for one in (await listed(plant, state="expired", limit=1)).items] == seen[:1]
