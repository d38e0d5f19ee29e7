"""The part of a domain's page on DMARC: what reports show, whose senders are, and reports that are handed over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from mailfleet.base.errors import InputError
from mailfleet.engine.dmarc_reports import DmarcReports
from mailfleet.engine.dmarc_views import DmarcDayView, DmarcView
from mailfleet.web.forms import Form
from mailfleet.web.sessions import Session

CHART_HEIGHT = 100
LEAST = 2  # of a bar that is not nothing
FILES = "reports"


class Bar(NamedTuple):
    """A day of the chart; heights out of ``CHART_HEIGHT``."""

    at: int
    day: str
    messages: int
    failed: int
    passed_height: int
    failed_height: int


class DmarcPart:
    """For one process."""

    def __init__(self, reports: DmarcReports) -> None:
        self._reports = reports

    async def fill(self, session: Session, domain: str) -> dict[str, Any]:
        """What its template is filled with. Raises ``NotFoundError``."""
        view = await self._reports.view(session.actor, domain)
        strangers = [
            one for one in view.senders if one.kind == "unknown" and one.judged == "open" and not one.must_judge
        ]
        return {
            "dmarc": view,
            "dmarc_bars": bars(view.by_day),
            "dmarc_share": share(view),
            "dmarc_senders": [one for one in view.senders if one not in strangers],
            "dmarc_strangers": strangers,
        }

    async def judge(self, session: Session, domain: str, form: Form) -> str:
        """What was done. Raises ``InputError`` and ``NotFoundError``."""
        who, verdict = form.get("who", ""), form.get("judged", "")
        await self._reports.judge(session.actor, domain, [who], verdict)
        said = {"ours": "may speak for the domain: it must pass", "foreign": "does not speak for the domain"}
        return f"{who} {said.get(verdict, 'is not judged any more')}."

    async def take(self, session: Session, form: Form) -> str:
        """What was done. Raises ``InputError``: those before the one that is named were taken in."""
        files = [one for one in form.uploads if one.field == FILES and one.data]
        if not files:
            raise InputError("no file was chosen", where=FILES, mend="choose reports as they came")
        known = added = 0
        for one in files:
            try:
                taken = await self._reports.take(session.actor, one.data)
            except InputError as error:
                place = ", ".join(part for part in (one.name, error.where) if part)
                before = f"; {added + known} before it were taken in" if added + known else ""
                raise InputError(f"{place}: {error.what}{before}", where=FILES, mend=error.mend) from None
            known += sum(each.known for each in taken.items)
            added += sum(not each.known for each in taken.items)
        again = f", {known} known already" if known else ""
        return f"{added} report{'' if added == 1 else 's'} taken in{again}."


def share(view: DmarcView) -> str:
    """``98.1 %`` of what was reported on; empty where nothing was."""
    return f"{100 * view.passed / view.messages:.1f} %" if view.messages else ""


def bars(by_day: Sequence[DmarcDayView]) -> list[Bar]:
    """One for each day that has reports; days without have their place too."""
    if not by_day:
        return []
    most = max(one.messages for one in by_day) or 1
    first = date.fromisoformat(by_day[0].day)
    made = []
    for one in by_day:
        failed = one.messages - one.passed
        made.append(
            Bar(
                (date.fromisoformat(one.day) - first) // timedelta(days=1),
                one.day,
                one.messages,
                failed,
                _height(one.passed, most),
                _height(failed, most),
            )
        )
    return made


def _height(part: int, most: int) -> int:
    return max(LEAST, round(part / most * (CHART_HEIGHT - LEAST))) if part else 0
