"""Taking a list: all rows or none, every problem named by line, and a dry run that leaves no trace."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mailfleet.base.errors import BusyError, ConflictError, InputError, Problem
from mailfleet.engine import upload as upload_module
from mailfleet.engine.requests import RecipientRow
from mailfleet.engine.views import CampaignAccepted
from mailfleet.store import campaigns
from tests.engine.plant import NOW_MS, OWNER, Plant
from tests.store.rows import check_laws

BAD = Problem(3, "bad-address", "there is no @ in it", "write it as name@domain", "email", "nobody")


def rows(*addresses: str, start: int = 2, **fields: object) -> list[RecipientRow]:
    return [RecipientRow(line, address, dict(fields)) for line, address in enumerate(addresses, start=start)]


async def taken(
    plant: Plant, *chunks: list[RecipientRow], problems: tuple[Problem, ...] = (), **values: Any
) -> CampaignAccepted:
    """Upload these chunks and seal."""
    one = await plant.open(**values)
    for chunk in chunks:
        await one.add(chunk, [])
    if problems:
        await one.add([], problems)
    return await one.seal()


async def test_a_good_list_goes_whole(plant: Plant) -> None:
    answer = await taken(plant, rows("a@x.example", "b@x.example"), rows("c@y.example", start=4), tags=["spring"])
    assert answer.campaign
    assert (answer.rows, answer.invalid, answer.duplicates, answer.suppressed, answer.problems) == (3, 0, 0, 0, [])
    assert (answer.campaign.state, answer.campaign.recipients, answer.campaign.queued) == ("sending", 3, 3)
    assert answer.campaign.tags == ["spring"]
    assert set((await plant.states()).values()) == {"queued"}
    assert sorted(await plant.kinds()) == ["accepted"] * 3 + ["campaign_created"]
    assert (await plant.campaigns.get(OWNER, answer.campaign.campaign)).queued == 3
    await plant.database.read(check_laws)


async def test_one_bad_row_refuses_the_list_and_leaves_nothing(plant: Plant) -> None:
    before = await plant.counts()
    answer = await taken(plant, rows("a@x.example"), problems=(BAD,))
    assert answer.campaign is None
    assert (answer.rows, answer.invalid, answer.problem_count) == (2, 1, 1)
    (problem,) = answer.problems
    assert (problem.line, problem.code, problem.field, problem.value) == (3, "bad-address", "email", "nobody")
    after = await plant.counts()
    assert after.pop("mail_domain") >= before.pop("mail_domain"), "the domain was looked at, which promises nothing"
    assert after == before


async def test_skip_invalid_leaves_out_what_is_bad(plant: Plant) -> None:
    answer = await taken(plant, rows("a@x.example"), problems=(BAD,), skip_invalid=True)
    assert answer.campaign
    assert (answer.campaign.recipients, answer.campaign.invalid, answer.campaign.rows) == (1, 1, 2)
    assert list(await plant.states()) == ["a@x.example"]


async def test_a_dry_run_counts_as_the_real_one_and_leaves_no_trace(plant: Plant) -> None:
    await plant.manager.suppress(OWNER, "gone@x.example", None, "left")
    before, addresses = await plant.counts(), ("a@x.example", "A@X.example", "gone@x.example")
    dry = await taken(plant, rows(*addresses), problems=(BAD,), dry_run=True, skip_invalid=True, idempotency_key="k")
    after = await plant.counts()
    assert after.pop("mail_domain") >= before.pop("mail_domain")
    assert after == before
    assert dry.campaign is None
    real = await taken(plant, rows(*addresses), problems=(BAD,), skip_invalid=True, idempotency_key="k")
    assert real.campaign
    for name in ("rows", "invalid", "duplicates", "suppressed", "problems"):
        assert getattr(dry, name) == getattr(real, name)
    assert (dry.duplicates, dry.suppressed) == (1, 1)


async def test_a_dry_run_of_only_bad_rows_names_them_all_the_same(plant: Plant) -> None:
    answer = await taken(plant, problems=(BAD,), dry_run=True)
    assert answer.problem_count == 1
    assert (await taken(plant, problems=(BAD,))).campaign is None


@pytest.mark.parametrize("values", [{}, {"skip_invalid": True}])
async def test_a_list_without_anybody_is_an_error(plant: Plant, values: dict[str, Any]) -> None:
    before = await plant.counts()
    with pytest.raises(InputError, match="no valid recipient"):
        await taken(plant, **values)
    assert await plant.counts() == before


async def test_duplicates_are_one_mailbox_whatever_their_case_or_spelling(plant: Plant) -> None:
    answer = await taken(
        plant,
        rows("Ann@X.example", "ann@x.example", "ann+tag@x.example", "j\u00f6rg@b\u00fccher.example"),
        rows("ANN@x.example", "j\u00f6rg@xn--bcher-kva.example", '"ann"@x.example', start=6),
    )
    assert (answer.rows, answer.duplicates) == (7, 4)
    assert sorted(await plant.states()) == ["Ann@x.example", "ann+tag@x.example", "j\u00f6rg@xn--bcher-kva.example"]


async def test_the_same_address_in_two_campaigns_is_no_duplicate(plant: Plant) -> None:
    for _ in range(2):
        assert (await taken(plant, rows("a@x.example"))).duplicates == 0


async def test_the_suppressed_are_on_record(plant: Plant) -> None:
    await plant.manager.suppress(OWNER, "gone@x.example", "bulk", "left")
    answer = await taken(plant, rows("gone@x.example", "a@x.example"))
    assert answer.campaign
    assert (answer.suppressed, answer.campaign.suppressed, answer.campaign.queued) == (1, 1, 1)
    assert (await plant.events("gone@x.example")) == [("suppressed", {"reason": "manual: left"})]


async def test_a_list_that_is_suppressed_as_a_whole_ends_at_once(plant: Plant) -> None:
    await plant.manager.suppress(OWNER, "gone@x.example", None, "left")
    answer = await taken(plant, rows("gone@x.example"))
    assert answer.campaign
    assert answer.campaign.state == "finished"


async def test_an_undefined_variable_is_found_with_its_line(plant: Plant) -> None:
    one = await plant.open(text="Dear {{ first }}, {{ last | default('') }} of {{ city }}", skip_invalid=True)
    await one.add(
        [
            RecipientRow(2, "a@x.example", {"first": "A", "city": "Oslo"}),
            RecipientRow(3, "b@x.example", {"first": "B"}),
            RecipientRow(5, "c@x.example", {"last": "C", "city": None}),
        ],
        [],
    )
    answer = await one.seal()
    assert [(one.line, one.code, one.field, one.value) for one in answer.problems] == [
        (3, "undefined-variable", "city", "b@x.example"),
        (5, "undefined-variable", "first, city", "c@x.example"),
    ]
    assert "default" in answer.problems[0].mend
    assert list(await plant.states()) == ["a@x.example"]


async def test_a_row_that_breaks_the_template_is_named_and_the_others_go(plant: Plant) -> None:
    one = await plant.open(text="{{ 100 // party.people }} each", skip_invalid=True)
    await one.add([RecipientRow(n, f"{n}@x.example", {"party": {"people": 3 - n}}) for n in (2, 3)], [])
    answer = await one.seal()
    assert [(one.line, one.code, one.value) for one in answer.problems] == [(3, "template", "3@x.example")]
    assert list(await plant.states()) == ["2@x.example"]


async def test_a_value_that_cannot_be_kept_is_named(plant: Plant) -> None:
    one = await plant.open(text="{{ n }}", skip_invalid=True)
    await one.add([RecipientRow(2, "a@x.example", {"n": 10**30}), RecipientRow(3, "b@x.example", {"n": 1})], [])
    assert [one.line for one in (await one.seal()).problems] == [2]


async def test_empty_values_are_warned_of_once_per_variable(plant: Plant) -> None:
    answer = await taken(
        plant,
        rows("a@x.example", "b@x.example", name="") + rows("c@x.example", start=4, name="C"),
        text="Dear {{ name }}",
    )
    warnings = [one for one in answer.warnings if one.code == "empty-variable"]
    assert [(one.line, one.field) for one in warnings] == [(2, "name")]
    assert warnings[0].what.startswith("2 rows")
    assert answer.campaign


async def test_problems_are_sorted_and_bounded_and_counted(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "MAX_PROBLEMS", 5)
    one = await plant.open(text="{{ x }}")
    await one.add(
        rows("a@x.example", "b@x.example", start=8), [Problem(line, "bad-address", "no") for line in (9, 4, 7, 2)]
    )
    answer = await one.seal()
    assert [problem.line for problem in answer.problems] == [2, 4, 7, 8, 9]
    assert answer.problem_count == 6


async def test_previews_are_whole_messages_for_the_first_good_rows(plant: Plant) -> None:
    one = await plant.open(previews=2, text="Dear {{ name }}", dry_run=True)
    await one.add([RecipientRow(2, "a@x.example", {})], [])
    await one.add([RecipientRow(line, f"u{line}@x.example", {"name": f"N{line}"}) for line in (3, 4, 5)], [])
    answer = await one.seal()
    assert len(answer.previews) == 2
    for line, preview in zip((3, 4), answer.previews, strict=True):
        assert f"u{line}@x.example" in preview
        assert f"N{line}" in preview
        assert "\r\n\r\n" in preview


async def test_a_preview_that_cannot_be_made_is_a_problem_of_its_row(plant: Plant) -> None:
    one = await plant.open(previews=3, sender="{{ shop }} <news@shop.example>", dry_run=True)
    await one.add(
        [
            RecipientRow(2, "a@x.example", {"shop": "A <x@evil.example>,"}),
            RecipientRow(3, "b@x.example", {"shop": "B"}),
        ],
        [],
    )
    answer = await one.seal()
    assert [problem.line for problem in answer.problems] == [2]
    assert len(answer.previews) == 1


async def test_only_what_the_template_uses_is_kept(plant: Plant) -> None:
    await taken(plant, rows("a@x.example", name="Ann", age=7, city="Oslo"), text="{{ age }}")
    ((fields,),) = await plant.rows("SELECT fields FROM delivery")
    assert fields == '{"name":"Ann","age":7}'


# Giving up


async def test_an_abandoned_list_leaves_nothing(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await plant.counts()
    one = await plant.open()
    await one.add(rows(*(f"u{n}@x.example" for n in range(50))), [])
    assert (await plant.counts())["delivery"] == 50
    assert (
        await plant.observer.deliveries(OWNER, campaign=None, state=None, recipient=None, after=None, limit=9)
    ).items == []
    await one.abandon()
    await one.abandon()
    after = await plant.counts()
    assert after.pop("mail_domain") == 1
    before.pop("mail_domain")
    assert after == before
    never = await plant.open()
    await never.abandon()


async def test_abandoning_after_sealing_changes_nothing(plant: Plant) -> None:
    one = await plant.open()
    await one.add(rows("a@x.example"), [])
    first = await one.seal()
    await one.abandon()
    assert await one.seal() == first
    await one.add(rows("late@x.example"), [])
    assert list(await plant.states()) == ["a@x.example"]


async def test_a_long_list_is_sealed_in_steps_and_reads_the_same(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "SEAL_STEP", 7)
    answer = await taken(plant, rows(*(f"u{n}@x.example" for n in range(50))))
    assert answer.campaign
    assert answer.campaign.state == "sending"
    assert (await plant.kinds()).count("accepted") == 50
    await plant.database.read(check_laws)


async def test_a_campaign_for_later(plant: Plant) -> None:
    answer = await taken(plant, rows("a@x.example"), send_at_ms=NOW_MS + 60_000)
    assert answer.campaign
    assert (answer.campaign.state, answer.campaign.send_at) == ("scheduled", "2026-01-01T00:01:00.000Z")
    assert await plant.rows("SELECT due_ms FROM delivery") == [(NOW_MS + 60_000,)]


# The same request again


async def test_the_same_key_answers_the_same_without_taking_rows(plant: Plant) -> None:
    first = await taken(plant, rows("a@x.example"), idempotency_key="k")
    before = await plant.counts()
    again = await taken(plant, rows("a@x.example"), idempotency_key="k")
    assert first.campaign
    assert again.campaign
    assert again.campaign.campaign == first.campaign.campaign
    assert await plant.counts() == before
    with pytest.raises(ConflictError, match="different request"):
        await plant.open(idempotency_key="k", subject="other")


async def test_the_same_key_twice_at_once_is_one_campaign(plant: Plant) -> None:
    async def upload() -> CampaignAccepted:
        one = await plant.open(idempotency_key="k")
        try:
            await one.add(rows("a@x.example"), [])
            return await one.seal()
        except Exception:
            await one.abandon()
            raise

    answers = await asyncio.gather(*(upload() for _ in range(4)), return_exceptions=True)
    good = [answer for answer in answers if isinstance(answer, CampaignAccepted) and answer.campaign]
    assert len({answer.campaign.campaign for answer in good if answer.campaign}) == 1
    assert all(isinstance(answer, CampaignAccepted | ConflictError) for answer in answers)
    assert (await plant.counts())["campaign"] == 1
    assert list(await plant.states()) == ["a@x.example"]


async def test_a_refused_list_may_be_mended_under_the_same_key(plant: Plant) -> None:
    assert (await taken(plant, problems=(BAD,), idempotency_key="k")).campaign is None
    assert (await taken(plant, rows("a@x.example"), idempotency_key="k")).campaign


# What is wrong with the content


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"html": "<p>ok</p>\n{{ name"}, "html line 2"),
        ({"subject": "{% if x %}"}, "subject line 1"),
        ({"text": None}, "text"),
        ({"sender": "nobody"}, "from"),
        ({"html": " ", "text": None}, "html"),
        ({"html": None, "text": ""}, "text"),
        ({"stream": "other"}, "stream"),
        ({"send_at_ms": NOW_MS + 91 * 86_400_000}, "send_at"),
    ],
)
async def test_wrong_content_is_refused_before_a_row_is_read(plant: Plant, values: dict[str, Any], where: str) -> None:
    before = await plant.counts()
    with pytest.raises(InputError) as caught:
        await plant.open(**values)
    assert caught.value.where.startswith(where)
    assert await plant.counts() == before


async def test_nothing_is_taken_while_there_is_no_room(plant: Plant) -> None:
    plant.full = "no disk"
    with pytest.raises(BusyError):
        await plant.open()
