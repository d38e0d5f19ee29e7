"""Values as people read them: numbers, ages, shares, and text of strangers made harmless.

Recipient names and remote replies are written by strangers. Templates escape all of it (autoescape, never ``safe``); what
escaping does not cover is done here: control characters and marks that turn the direction of text around, which could make
a page say what nobody wrote.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from mailfleet.base.clock import parse_rfc3339
from mailfleet.engine.views import CampaignView, QueueRow

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = "\u200c\u200d\u200e\u200f"  # spelling of Persian, Hindi, emoji; marks that cannot turn a line around
_SAID = ("reply", "reason", "detail", "what", "bounce_class")
_PARTS = ("delivered", "bounced", "expired", "suppressed", "cancelled", "deferred")


def harmless(value: object, limit: int = 300) -> str:
    """Text of a stranger on one line: bounded; control, format and direction characters shown as U+FFFD."""
    text = " ".join(str(value)[: limit * 2].split())
    clean = "".join(
        letter if letter in _JOINERS or unicodedata.category(letter) not in _HIDDEN else "\ufffd"
        for letter in text[: limit + 1]
    )
    return clean if len(clean) <= limit else clean[: limit - 1] + "\u2026"


def verbatim(value: object) -> str:
    """Text of a stranger that is to be copied: whole, blanks and lines as they are; the same characters shown as U+FFFD."""
    return "".join(
        letter if letter in _JOINERS + "\n" or unicodedata.category(letter) not in _HIDDEN else "\ufffd"
        for letter in str(value)
    )


def number(value: int) -> str:
    """``9995`` -> ``9,995``."""
    return f"{value:,}"


def age(seconds: float) -> str:
    """``5400`` -> ``1 h 30 min``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(rfc3339: str | None) -> str:
    """``2026-01-31T09:00:00.000Z`` -> ``2026-01-31 09:00:00``."""
    return "" if rfc3339 is None else rfc3339[:19].replace("T", " ")


def far(rfc3339: str, now_ms: int) -> str:
    """How far off a moment is: ``in 41 d``, ``3 h ago``; empty for no moment."""
    if not rfc3339:
        return ""
    seconds = (parse_rfc3339(rfc3339) - now_ms) / 1000
    whole, unit = next(
        ((int(abs(seconds) // size), name) for size, name in _UNITS if abs(seconds) >= size), (0, "moment")
    )
    if unit == "moment":
        return "now"
    return f"in {whole} {unit}" if seconds > 0 else f"{whole} {unit} ago"


def minute(rfc3339: str | None) -> str:
    """``2026-01-31T09:00:00.000Z`` -> ``01-31 09:00``."""
    return "" if rfc3339 is None else rfc3339[5:16].replace("T", " ")


def rate(campaign: CampaignView) -> str:
    """Outcomes a second since the start, in words; empty before the first."""
    ended = campaign.delivered + campaign.bounced + campaign.expired
    if not ended or campaign.seconds <= 0:
        return ""
    speed = ended / campaign.seconds
    return f"{speed:,.0f} a second" if speed >= 10 else f"{speed:.1f} a second"


def segments(campaign: CampaignView) -> list[dict[str, Any]]:
    """The parts of a progress bar: name, count, and where each begins and how wide it is, in percent."""
    whole = max(1, campaign.recipients)
    found: list[dict[str, Any]] = []
    start = 0.0
    for name in _PARTS:
        count = getattr(campaign, name)
        if count:
            width = 100 * count / whole
            found.append({"name": name, "count": count, "start": f"{start:.3f}", "width": f"{width:.3f}"})
            start += width
    return found


def done_percent(campaign: CampaignView) -> int:
    """How much has its final outcome; 100 only when everything has."""
    final = campaign.recipients - campaign.pending
    if campaign.recipients <= 0:
        return 100 if campaign.state == "finished" else 0
    return min(99 if campaign.pending else 100, max(0, 100 * final // campaign.recipients))


def said(data: Mapping[str, Any]) -> str:
    """The words of an event: the remote's reply where there is one."""
    return next((str(data[name]) for name in _SAID if data.get(name)), "")


def by_provider(sites: list[QueueRow]) -> list[dict[str, Any]]:
    """Backlog rows summed by provider, the largest first, with the commonest reason."""
    summed: dict[str, dict[str, Any]] = {}
    for site in sites:
        row = summed.setdefault(
            site.provider or "other",
            {"queued": 0, "deferred": 0, "leased": 0, "oldest_age_s": 0.0, "sites": 0, "reasons": {}},
        )
        for name in ("queued", "deferred", "leased"):
            row[name] += getattr(site, name)
        row["sites"] += 1
        row["oldest_age_s"] = max(row["oldest_age_s"], site.oldest_age_s)
        for reason, count in site.reasons.items():
            row["reasons"][reason] = row["reasons"].get(reason, 0) + count
    rows = [
        {"provider": provider, **row, "reason": max(row["reasons"], key=row["reasons"].__getitem__, default="")}
        for provider, row in summed.items()
    ]
    return sorted(rows, key=lambda row: (-(row["queued"] + row["leased"]), row["provider"]))
