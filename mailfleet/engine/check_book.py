"""Checks over time: how each stands, what has changed, and how that is told. What is looked at is not known here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mailfleet.base.clock import rfc3339
from mailfleet.base.ids import IdGenerator
from mailfleet.engine.domain_views import CheckView, PastCheckView
from mailfleet.policy import dns_checks
from mailfleet.policy.dns_checks import Check, Kept
from mailfleet.store import dns as dns_rows
from mailfleet.store.database import Tx
from mailfleet.store.dns import Past

CHECK_EVERY_MS = 6 * 3_600_000
HURRY_MS = 15 * 60_000  # while something is not right
_WORST = ("ok", "warning", "unknown", "failed")


def enter(
    tx: Tx,
    ids: IdGenerator,
    subject: str,
    checks: Iterable[Check],
    now_ms: int,
    *,
    calm: bool,
    tell: Callable[[Check, str], None],
) -> dict[str, Kept]:
    """What was found now; changes become history. ``tell`` is called for each but the first find, with the state before.

    ``calm``: a change for the worse counts when it is seen again; a person who asks sees what is there now.
    """
    dns_rows.hold_standing(tx)
    before = dns_rows.standing(tx, subject)
    after = {}
    for one in checks:
        was = before.get(one.name)
        after[one.name] = kept = dns_checks.settle(was, one, now_ms, calm=calm)
        old, check = "" if was is None else was.check.state, kept.check
        if old != check.state:
            row = Past(ids.next(), subject, check.name, old, check.state, check.found, check.meaning, now_ms)
            dns_rows.add_past(tx, row)
            if old:
                tell(check, old)
    dns_rows.put_standing(tx, subject, after)
    return after


def wait_ms(kept: Mapping[str, Kept]) -> int:
    """Until the next look."""
    bad = any(one.check.state in ("failed", "unknown") or one.doubt for one in kept.values())
    return HURRY_MS if bad else CHECK_EVERY_MS


def worst(kept: Mapping[str, Kept]) -> str:
    """The worst state of all; ``unknown`` where nobody has looked."""
    return max((one.check.state for one in kept.values()), key=_WORST.index, default="unknown")


def event_data(check: Check, before: str) -> dict[str, str]:
    """What an event says of a change."""
    return {
        "check": check.name, "before": before, "state": check.state, "found": check.found, "meaning": check.meaning,
        "next_step": check.next_step,
    }  # fmt: skip


def check_views(kept: Mapping[str, Kept]) -> list[CheckView]:
    """As they are shown."""
    return [
        CheckView(
            name=one.check.name,
            state=one.check.state,
            found=one.check.found,
            expected=one.check.expected,
            servers=list(one.check.servers),
            meaning=one.check.meaning,
            next_step=one.check.next_step,
            since=rfc3339(one.since_ms),
            seen=rfc3339(one.seen_ms),
        )
        for one in kept.values()
    ]


def past_views(past: Iterable[Past]) -> list[PastCheckView]:
    """As they are shown."""
    return [
        PastCheckView(
            at=rfc3339(one.at_ms),
            name=one.name,
            before=one.before,
            state=one.state,
            found=one.found,
            meaning=one.meaning,
        )
        for one in past
    ]
