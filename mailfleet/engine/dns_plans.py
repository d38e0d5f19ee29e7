"""Plans and their publishing as they are answered: lines of a zone file, and the fields of a DNS provider's form."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mailfleet.base.errors import ConflictError, InputError
from mailfleet.engine.dns_publish import Diff
from mailfleet.engine.domain_views import ChangeView, ConflictView, FormField, PlannedRecord
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_update import Change
from mailfleet.policy.dns_forms import Form, fill
from mailfleet.policy.dns_plan import Wanted, rdata_text, zone_text


class PlanWriter:
    """For one process. ``forms``: of DNS providers, by name; ``ttl_s`` of what is published."""

    def __init__(self, authoritative: Authoritative, forms: Mapping[str, Form], ttl_s: int) -> None:
        self._dns, self._forms, self._ttl_s = authoritative, forms, ttl_s

    async def answer(self, records: Sequence[Wanted], provider: str) -> dict[str, Any]:
        """What a view of a plan has; with ``provider``, what its form wants too. Raises ``InputError``."""
        made = [
            PlannedRecord(
                **one._asdict(), line=f"{one.name}. {self._ttl_s} IN {one.type} {rdata_text(one.type, one.value)}"
            )
            for one in records
        ]
        answer: dict[str, Any] = {"records": made, "zone": zone_text(records, self._ttl_s)}
        if not provider:
            return answer
        form = self._forms.get(provider.strip().lower())
        if form is None:
            raise InputError(f"{provider!r} is not known", where="for", mend=f"one of {', '.join(self._forms)}")
        names = list(dict.fromkeys(one.name for one in records if one.type != "PTR"))
        zones = dict(zip(names, await asyncio.gather(*map(self._dns.zone_of, names)), strict=True))
        answer["records"] = [
            _filled(view, form, one, zones.get(one.name, ""), self._ttl_s)
            for view, one in zip(made, records, strict=True)
        ]
        return {**answer, "provider": form.label, "provider_note": form.note, "provider_page": form.page}


def _filled(view: PlannedRecord, form: Form, wanted: Wanted, zone: str, ttl_s: int) -> PlannedRecord:
    filled = fill(form, wanted, zone, ttl_s)
    fields = [FormField(label=label, value=value) for label, value in filled.fields]
    return view.model_copy(update={"in_zone": zone, "fields": fields, "note": filled.note})


def published(diff: Diff, by_hand: Sequence[Change], missing: Sequence[Wanted], *, applied: bool) -> dict[str, Any]:
    """What a view of publishing has."""
    return {
        "applied": applied,
        "changes": [_change(one) for one in diff.changes if one not in by_hand],
        "by_hand": [_change(one) for one in by_hand],
        "conflicts": [ConflictView(**one._asdict()) for one in diff.conflicts],
        "unknown": list(dict.fromkeys(diff.unknown)),
        "missing": [f"{one.name} {one.type}" for one in missing],
        "mark": _mark(diff, by_hand),
    }


def hold_to(shown: str, diff: Diff, by_hand: Sequence[Change]) -> None:
    """See that the changes are those that were ``shown``, by their mark; an empty one asks for nothing. Raises ``ConflictError``."""
    if shown and shown != _mark(diff, by_hand):
        raise ConflictError(
            "nothing was published: the changes are not those any more that were shown",
            where="shown",
            mend="somebody changed the DNS or the domain meanwhile: look at the changes again",
        )


def _mark(diff: Diff, by_hand: Sequence[Change]) -> str:
    said = [
        *(["by hand" if one in by_hand else "", one.action, one.name, one.type, one.value] for one in diff.changes),
        *diff.conflicts,
        *diff.unknown,
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def _change(one: Change) -> ChangeView:
    return ChangeView(action=one.action, name=one.name, type=one.type, value=one.value)
