"""Steering the DNS of one sending domain on its page: what would change is shown before it is done; its keys are changed.

Nothing is published that the person did not see: what was shown goes with the form as its mark, and the engine holds to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mailfleet.base.errors import InputError
from mailfleet.engine.domain_views import ChangeView, CheckView, KeysView, PlanView, PublishView
from mailfleet.engine.services import Services
from mailfleet.web.forms import Form
from mailfleet.web.sessions import Session

LOOK_WITHIN_S = 30.0
LOOK, ADOPT = "look", "adopt"  # how a page is asked for that shows changes; the second with those of others replaced
_VERBS = {"added": "add", "replaced": "replace", "removed": "remove"}


class DnsPart:
    """For one process."""

    def __init__(self, services: Services) -> None:
        self._domains, self._rotation, self._zones = services.domains, services.rotation, services.dns_zones

    async def fill(self, session: Session, plan: PlanView, checks: Sequence[CheckView], how: str) -> dict[str, Any]:
        """What was done a moment ago, or what would be, where ``how`` asks for it; whether it is done by hand."""
        if "manage" not in session.actor.scopes:
            return {"diff": None, "late": False, "done": None, "by_hand": False, "adopt": False}
        done = session.done.pop(_place(plan.domain), None)
        diff, late = None, False
        if how in (LOOK, ADOPT):
            try:
                async with asyncio.timeout(LOOK_WITHIN_S):
                    diff = await self._domains.publish(session.actor, plan.domain, adopt=how == ADOPT, dry_run=True)
            except TimeoutError:
                late = True
        names = {one.name for one in plan.records}
        return {
            "diff": _shown(diff, plan, checks) if diff else None,
            "late": late,
            "done": _shown(done, plan, checks) if isinstance(done, PublishView) else None,
            "by_hand": await self._zones.by_hand(names) == names,
            "adopt": how == ADOPT,
        }

    async def publish(self, session: Session, name: str, form: Form) -> str:
        """Make the changes that were shown, and look at what the name servers have then. Raises ``InputError``."""
        if not form.get("shown"):
            raise InputError("nothing was published: see first what would change", where="shown")
        actor = session.actor
        adopt = form.get("adopt") == "yes"
        done = await self._domains.publish(actor, name, adopt=adopt, dry_run=False, shown=form["shown"])
        session.done[_place(done.domain)] = done
        await self._domains.check(actor, name)
        return ""

    async def rotate(self, session: Session, name: str, form: Form) -> str:
        """Change the key; at once where it leaked. Raises ``ConflictError``."""
        leaked = form.get("leaked") == "yes"
        keys = await self._rotation.rotate(session.actor, name, at_once=leaked)
        await self._domains.check(session.actor, name)
        session.done[f"{_place(keys.domain)}#keys"] = _rotated(keys, leaked=leaked)
        return ""

    async def keys(self, session: Session, name: str) -> dict[str, Any]:
        """Each key with what it waits for, and what the name servers have of it."""
        signing = await self._rotation.keys(session.actor, name)
        checks = {one.name: one for one in (await self._domains.standing(session.actor, name)).checks}
        may_manage = "manage" in session.actor.scopes
        place = f"_domainkey.{signing.domain}"
        stages = {one.stage for one in signing.keys}
        return {
            "domain": signing.domain,
            "signing": signing,
            "keys": [
                {
                    "view": one,
                    "record": f"{one.selector}.{place}",
                    "check": checks.get(f"dkim:{one.selector}"),
                }
                for one in signing.keys
            ],
            "keys_by_hand": may_manage and bool(await self._zones.by_hand([place])),
            "may_rotate": may_manage and "next" not in stages,
            "may_leak": may_manage and bool(stages & {"active", "old"}),
            "may_manage": may_manage,
        }

    @staticmethod
    def rotated(session: Session, domain: str) -> str:
        """What was done to the keys a moment ago; told once."""
        return str(session.done.pop(f"{_place(domain)}#keys", ""))


def _place(domain: str) -> str:
    return f"/domains/{domain}"


def _shown(view: PublishView, plan: PlanView, checks: Sequence[CheckView]) -> dict[str, Any]:
    purposes = {(one.name, one.type): one.purpose for one in plan.records}
    standing = {one.name: one for one in checks}
    evidence = {(one.name, one.type): standing.get(one.check) for one in plan.records}
    changes, by_hand = (_rows(some, purposes, evidence) for some in (view.changes, view.by_hand))
    kept = not (changes or by_hand or view.conflicts or view.unknown)
    added = any(row["now"] for row in changes)
    return {"view": view, "changes": changes, "by_hand": by_hand, "kept": kept, "added": added}


def _rows(
    changes: Iterable[ChangeView],
    purposes: Mapping[tuple[str, str], str],
    evidence: Mapping[tuple[str, str], CheckView | None],
) -> list[dict[str, Any]]:
    """One for each name and type: what goes there and what comes in its place."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in changes:
        place = one.name, one.type
        row = found.setdefault(place, {"name": one.name, "type": one.type, "was": [], "now": []})
        row["now" if one.action == "add" else "was"].append(one.value)
    for place, row in found.items():
        row["word"] = "replaced" if row["was"] and row["now"] else "added" if row["now"] else "removed"
        row["verb"] = _VERBS[row["word"]]
        row["purpose"] = purposes.get(place, "") if row["now"] else ""
        row["check"] = evidence.get(place) if row["now"] else None
    return list(found.values())


def _rotated(keys: KeysView, *, leaked: bool) -> str:
    by_stage: dict[str, list[str]] = {}
    for one in keys.keys:
        by_stage.setdefault(one.stage, []).append(one.selector)
    if by_stage.get("next"):
        told = f"{' and '.join(by_stage['next'])} signs as soon as every name server has its record."
        return f"{told} The key that leaked goes then." if leaked else told
    told = f"{' and '.join(by_stage.get('active', []))} signs now"
    gone = by_stage.get("revoked" if leaked else "old", [])
    return f"{told}. To go at once: {', '.join(gone)}." if leaked else f"{told}, and {' and '.join(gone)} no more."
