"""How far a DMARC policy may go: what waits for whom, and when it must go back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.mail.dmarc import POLICIES, Policy
from mailfleet.policy.dmarc_rollout import (
    LOST_MESSAGES,
    MIN_DAYS,
    MIN_MESSAGES,
    RECENT_DAYS,
    WEIGHTY_MESSAGES,
    Evidence,
    Judged,
    Seen,
    advise,
    days_at,
    senders,
    stage_of,
    weighty,
)

OURS = "192.0.2.1"
OWN = {OURS: "s1"}
KEYS = {"mf1"}


def seen(ip: str = OURS, messages: int = 1000, **fields: Any) -> Seen:
    known: dict[str, Any] = {
        "dkim": True, "spf": True, "held": False, "signed_by": "mf1", "known_as": "", "reasons": "", "why": "", "messages": messages,
        "recent": 0, "days": 20, "last_day": 20_000,
    }  # fmt: skip
    return Seen(ip, **(known | fields))


def fails(ip: str, messages: int, **fields: Any) -> Seen:
    return seen(ip, messages, **({"dkim": False, "spf": False, "signed_by": "", "why": "no DKIM signature"} | fields))


def evidence(*rows: Seen, judged: dict[str, Judged] | None = None, **fields: Any) -> Evidence:
    known: dict[str, Any] = {
        "domain": "shop.example", "stage": "none", "wanted": "none", "days": 20, "stage_days": 20, "reporters": 5,
    }  # fmt: skip
    return Evidence(**(known | fields), senders=senders(rows, OWN, KEYS, judged or {}))


# Who is who


@pytest.mark.parametrize(
    ("row", "who", "kind"),
    [
        (seen(), "s1", "ours"),
        (fails(OURS, 5), "s1", "ours"),
        (seen("198.51.100.7"), "forwarders", "forwarders"),
        (seen("198.51.100.7", known_as="list.example"), "forwarders", "forwarders"),
        (seen("198.51.100.7", signed_by="google"), "selector google", "service"),
        (seen("198.51.100.7", signed_by="k1", known_as="crm.example"), "crm.example", "service"),
        (fails("198.51.100.7", 5, known_as="crm.example"), "crm.example", "service"),
        (fails("198.51.100.7", 5), "198.51.100.7", "unknown"),
        (fails("2001:db8:1:2:3::4", 5), "2001:db8:1:2::/64", "unknown"),
        (seen("198.51.100.7", dkim=False, signed_by=""), "198.51.100.7", "unknown"),
    ],
)
def test_who_is_who(row: Seen, who: str, kind: str) -> None:
    (found,) = senders([row], OWN, KEYS, {})
    assert (found.who, found.kind) == (who, kind)


def test_what_a_sender_sends_is_summed() -> None:
    rows = [
        seen(messages=10, recent=4),
        seen(messages=5, spf=False, recent=5),
        fails(OURS, 3, why="a", days=2, recent=1, held=True),
        fails(OURS, 4, why="b", reasons="mailing_list other", days=3, recent=4),
    ]
    (found,) = senders(rows, OWN, KEYS, {})
    assert (found.messages, found.passed, found.by_dkim, found.by_spf, found.failed) == (22, 15, 15, 10, 7)
    assert (found.excused, found.recent_passed, found.recent_lost, found.failed_days, found.why) == (4, 9, 1, 3, "b")
    assert found.addresses == {OURS: 22}


# What to do


def test_nothing_is_said_without_reports() -> None:
    assert advise(evidence(days=0)) is None


@pytest.mark.parametrize(("stage", "to"), [("none", "quarantine"), ("quarantine", "reject")])
def test_it_goes_on_when_all_passes(stage: Policy, to: Policy) -> None:
    found = advise(evidence(seen(), stage=stage, wanted=stage))
    assert found is not None
    assert (found.state, found.to) == ("warning", to)
    assert f"--dmarc {to}" in found.next_step
    assert found.found == f"p={stage}; 20 days of reports by 5 receivers: 1,000 messages, 100.0 % pass"


def test_at_reject_nothing_is_left_to_do() -> None:
    found = advise(evidence(seen(), fails("198.51.100.7", 5000), stage="reject", wanted="reject"))
    assert found is not None
    assert (found.state, found.to, found.next_step) == ("ok", None, "")


@pytest.mark.parametrize(
    ("fields", "messages", "words"),
    [
        ({"stage_days": MIN_DAYS - 1}, 1000, f"{MIN_DAYS} days of reports at p=none are wanted, and {MIN_DAYS - 1}"),
        ({}, MIN_MESSAGES - 1, f"{MIN_MESSAGES} messages of your own are wanted, and {MIN_MESSAGES - 1}"),
    ],
)
def test_it_waits_for_enough(fields: dict[str, Any], messages: int, words: str) -> None:
    found = advise(evidence(seen(messages=messages), **fields))
    assert found is not None
    assert (found.state, found.to) == ("ok", None)
    assert words in found.meaning


def test_mail_of_our_own_that_fails_keeps_it_from_going_on() -> None:
    few = advise(evidence(seen(), fails(OURS, 10)))
    assert few is not None
    assert few.to == "quarantine", "receivers have troubles of their own"
    found = advise(evidence(seen(), fails(OURS, 11)))
    assert found is not None
    assert (found.state, found.to) == ("warning", None)
    assert "11 of 1,011 messages, most from s1 (no DKIM signature)" in found.meaning


def test_what_receivers_excuse_keeps_nothing() -> None:
    found = advise(evidence(seen(), fails(OURS, 500, reasons="forwarded")))
    assert found is not None
    assert found.to == "quarantine"


def test_a_service_must_be_judged_and_then_set_up() -> None:
    rows = [seen(messages=10_000), fails("198.51.100.7", 300, known_as="crm.example")]
    found = advise(evidence(*rows))
    assert found is not None
    assert (found.state, found.to) == ("warning", None)
    assert "crm.example (300)" in found.meaning
    assert "mailfleet dmarc judge shop.example ours|foreign crm.example" in found.next_step
    found = advise(evidence(*rows, judged={"crm.example": "ours"}))
    assert found is not None
    assert found.to is None
    assert "have crm.example sign with a key of shop.example" in found.next_step
    found = advise(evidence(*rows, judged={"crm.example": "foreign"}))
    assert found is not None
    assert found.to == "quarantine"


def test_strangers_of_little_weight_need_no_word() -> None:
    forged = [fails(f"198.51.100.{n}", WEIGHTY_MESSAGES - 1) for n in range(200)]
    once = fails("203.0.113.1", 5000, days=1)
    found = advise(evidence(seen(), *forged, once))
    assert found is not None
    assert found.to == "quarantine"
    every = senders([seen(), fails("203.0.113.1", WEIGHTY_MESSAGES), once._replace(ip="203.0.113.2")], OWN, KEYS, {})
    assert [one.who for one in weighty(every)] == ["203.0.113.1"]


@pytest.mark.parametrize(("stage", "to"), [("quarantine", "none"), ("reject", "quarantine")])
def test_a_policy_that_hurts_goes_back(stage: Policy, to: Policy) -> None:
    rows = [seen(recent=900), fails(OURS, LOST_MESSAGES, recent=LOST_MESSAGES, held=True)]
    found = advise(evidence(*rows, stage=stage, wanted=stage))
    assert found is not None
    assert (found.state, found.to) == ("failed", to)
    assert (
        f"in the last {RECENT_DAYS} days of reports {LOST_MESSAGES} of 920 messages were held, most from s1"
        in found.meaning
    )
    # What is forged, lies back, or was let pass, is no reason
    for rows in (
        [seen(recent=900), fails("203.0.113.1", 500, recent=500, held=True)],
        [seen(recent=900), fails(OURS, 500, held=True)],
        [seen(recent=900), fails(OURS, 500, recent=500)],
    ):
        found = advise(evidence(*rows, stage=stage, wanted=stage, judged={"203.0.113.1": "foreign"}))
        assert found is not None
        assert found.state != "failed"


def test_what_is_set_must_be_in_the_dns_first() -> None:
    found = advise(evidence(seen(), wanted="quarantine"))
    assert found is not None
    assert (found.state, found.to, found.meaning) == ("ok", None, "p=quarantine is set, and the DNS has p=none")


# Days


def test_the_stage_is_what_most_of_the_last_day_was_held_to() -> None:
    assert stage_of([]) is None
    assert stage_of([(1, "reject", 900), (2, "none", 5), (2, "quarantine", 9)]) == "quarantine"
    assert stage_of([(1, "reject", 900), (2, "none", 0)]) == "none"


@pytest.mark.parametrize(
    ("stage", "rows", "days"),
    [
        ("none", [], 0),
        ("none", [(1, "none", 5), (2, "none", 5), (4, "none", 5)], 3),
        ("none", [(1, "none", 5), (2, "reject", 5), (3, "none", 5)], 1),
        ("none", [(1, "none", 5), (2, "reject", 5)], 0),
        ("reject", [(1, "none", 5), (2, "none", 9), (2, "reject", 3), (3, "reject", 9), (3, "none", 1)], 1),
        ("reject", [(1, "reject", 3), (1, "none", 3)], 1),
    ],
)
def test_days_at_a_stage(stage: Policy, rows: list[tuple[int, str, int]], days: int) -> None:
    assert days_at(stage, rows) == days


ROWS = st.lists(
    st.builds(
        seen,
        st.sampled_from([OURS, "198.51.100.7", "203.0.113.1", "2001:db8::1"]),
        st.integers(1, 5000),
        dkim=st.booleans(),
        spf=st.booleans(),
        signed_by=st.sampled_from(["", "mf1", "k9"]),
        known_as=st.sampled_from(["", "crm.example"]),
        reasons=st.sampled_from(["", "forwarded"]),
        held=st.booleans(),
        recent=st.integers(0, 100),
        days=st.integers(1, 30),
    ),
    max_size=12,
)


@given(ROWS, st.sampled_from(POLICIES), st.sampled_from(POLICIES), st.integers(0, 30))
def test_it_moves_one_step_and_only_on_when_nothing_is_open(
    rows: list[Seen], stage: Policy, wanted: Policy, stage_days: int
) -> None:
    known = evidence(*rows, stage=stage, wanted=wanted, stage_days=stage_days)
    found = advise(known)
    assert found is not None
    assert sum(one.messages for one in known.senders) == sum(one.messages for one in rows), "nothing is lost"
    if found.to is None:
        return
    step = POLICIES.index(found.to) - POLICIES.index(stage)
    assert step == (-1 if found.state == "failed" else 1)
    if step == 1:
        good = [one for one in known.senders if one.good]
        assert stage_days >= MIN_DAYS
        assert not weighty(known.senders)
        assert sum(one.failed - one.excused for one in good) <= 0.01 * sum(one.messages for one in good)
        assert POLICIES.index(wanted) <= POLICIES.index(stage)
