"""Brakes put on, tightened, loosened and lifted: each in one commit with the event that tells of it."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from mailfleet.base.clock import rfc3339
from mailfleet.base.ids import IdGenerator, public
from mailfleet.policy.brakes import Brake, Brakes, Decision, loosen, put_on, tighten
from mailfleet.policy.lifecycle import EventKind
from mailfleet.store import brakes, egress, tenants
from mailfleet.store.database import Tx
from mailfleet.store.events import EventRow, append

GRACE_S = 30.0  # what was on its way when a brake was put on comes back with the same words


def apply(tx: Tx, decisions: Sequence[Decision], ids: IdGenerator, *, now_ms: int, scale: float) -> list[Brake]:
    """Put on what is decided, or tighten what is on for the same mail by the same rule; returns what changed."""
    if not decisions:
        return []
    brakes.hold(tx)
    changed: list[Brake] = []
    for decision in decisions:
        known = Brakes(brakes.in_force(tx)).find(decision)
        if known is None:
            brake = put_on(decision, ids.next(), now_ms)
        else:
            tighter = tighten(known, decision, now_ms, grace_ms=round(GRACE_S * 1000 / scale))
            if tighter is None:
                continue
            brake = tighter
        put(tx, brake, now_ms)
        changed.append(brake)
    return changed


def put(tx: Tx, brake: Brake, now_ms: int) -> None:
    """Keep a brake as it is now, and tell of it."""
    brakes.put(tx, brake)
    kind = EventKind.BRAKE_OFF if brake.ended_ms else EventKind.BRAKE_ON
    append(tx, [EventRow(now_ms, tenants.DEFAULT_TENANT, kind, brake.campaign_id, 0, _data(tx, brake))])


def loosen_due(tx: Tx, now_ms: int) -> int:
    """Loosen or end every brake whose time is over, one step each; returns how many."""
    brakes.hold(tx)
    changed = [step for one in brakes.in_force(tx) if (step := loosen(one, now_ms)) is not None]
    for one in changed:
        put(tx, one, now_ms)
    return len(changed)


def lift(tx: Tx, brake: Brake, now_ms: int, why: str) -> Brake:
    """End a brake at once."""
    ended = brake._replace(ended_ms=now_ms, ended_why=why)
    put(tx, ended, now_ms)
    return ended


def _data(tx: Tx, brake: Brake) -> str:
    row = egress.get(tx, brake.egress_id) if brake.egress_id else None
    found: dict[str, object] = {
        "brake": public("brk", brake.id),
        "action": brake.action,
        "permille": brake.permille,
        "reason": brake.reason,
        "origin": brake.origin,
    }
    more = {
        "source": row.name if row else "",
        "provider": brake.provider,
        "rule": brake.rule,
        "words": brake.words,
        "until": rfc3339(brake.until_ms) if brake.until_ms else "",
        "ended": brake.ended_why,
    }
    found |= {name: value for name, value in more.items() if value}
    return orjson.dumps(found).decode()
