"""The final report of a campaign: outcomes, bounce classes and providers, and where to look further."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of

_OUTCOMES = ("delivered", "bounced", "expired", "suppressed", "cancelled")
_TOTALS = (
    "invalid",
    "duplicates",
    "suppressed",
    "delivered",
    "bounced",
    "expired",
    "cancelled",
    "pending",
)


@dataclass(slots=True)
class Breakdown:
    """Deliveries of a campaign, counted. ``example`` is one (recipient, remote's words) of each bounce class."""

    providers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    classes: Counter[str] = field(default_factory=Counter)
    example: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one ``CampaignReportRow``."""
        state, count = str(row["state"]), int(row["count"])
        self.providers[_provider(row)][state] += count
        if state in ("bounced", "expired"):
            name = str(row["bounce_class"] or "other")
            self.classes[name] += count
            self.example.setdefault(name, (str(row["recipient"]), str(row["reason"])))


def _provider(row: Mapping[str, Any]) -> str:
    """The provider's name; most small servers belong to none, and some domains have no mail host at all."""
    return str(row["provider"] or ("others" if row["mail_host"] else "no mail host"))


def totals(view: Mapping[str, Any]) -> dict[str, Any]:
    """The object that ``--wait --json`` ends with. ``recipients`` counts rows read, as in the list that was handed in."""
    return {
        "campaign": view["campaign"],
        "state": view["state"],
        "recipients": view["rows"],
        **{name: view[name] for name in _TOTALS},
        "seconds": view["seconds"],
    }


def break_down(api: Api, campaign: str) -> Breakdown:
    """How the deliveries of ``campaign`` stand."""
    found = Breakdown()
    for row in api.get(path_of("campaigns", campaign, "report"))["rows"]:
        found.add(row)
    return found


def print_report(api: Api, view: Mapping[str, Any], data: Path | None) -> None:
    """Everything about a campaign that has ended, on standard output."""
    console = show.stdout()
    took = show.duration(float(view["seconds"]))
    show.say(console, show.styled((view["name"], "bold"), (f"  {view['campaign']}  {view['state']} after {took}", "")))
    show.say(console)
    _print_totals(view)
    found = break_down(api, str(view["campaign"]))
    if found.providers:
        show.say(console)
        _print_providers(found)
    if found.classes:
        show.say(console)
        _print_classes(found)
    _print_further(view, found, data)


def _print_totals(view: Mapping[str, Any]) -> None:
    rows = [("rows read", view["rows"], "")]
    rows += [
        (name, view[key], "left out")
        for name, key in (("cannot be used", "invalid"), ("duplicates", "duplicates"))
        if view[key]
    ]
    total = max(view["recipients"], 1)
    for name in (*_OUTCOMES, "pending"):
        if view[name] or name in ("delivered", "bounced", "expired"):
            rows.append((name, view[name], f"{100 * view[name] / total:.1f} % of recipients"))
    show.table(
        show.stdout(),
        ("", "count", ""),
        [(name, show.number(count), note) for name, count, note in rows],
        right=("count",),
    )


def _print_providers(found: Breakdown) -> None:
    states = [name for name in _OUTCOMES if any(counts[name] for counts in found.providers.values())]
    ordered = sorted(found.providers.items(), key=lambda item: -item[1].total())
    show.table(
        show.stdout(),
        ("provider", *states),
        [(name, *(show.number(counts[state]) for state in states)) for name, counts in ordered],
        right=states,
        title="By provider",
    )


def _print_classes(found: Breakdown) -> None:
    show.table(
        show.stdout(),
        ("class", "count", "for example", "last words"),
        [
            (name, show.number(count), found.example[name][0], show.shorten(found.example[name][1], 90))
            for name, count in found.classes.most_common()
        ],
        right=("count",),
        whole=("class",),
        title="Bounced and expired, by class",
    )


def _print_further(view: Mapping[str, Any], found: Breakdown, data: Path | None) -> None:
    console = show.stdout()
    someone = next((address for address, _ in found.example.values()), "ADDRESS")
    show.say(console, show.styled(("\nLook further", "bold")))
    for words in (
        ("trace", someone),
        ("campaign", "deliveries", str(view["campaign"]), "--state", "bounced"),
        ("events", "--campaign", str(view["campaign"])),
    ):
        show.say(console, "  " + command_line(data, *words))


def command_line(data: Path | None, *words: str) -> str:
    """A command to copy, with the ``--data`` of this one where it was given."""
    parts = ["mailfleet", *words, *(["--data", str(data)] if data is not None else [])]
    return shlex.join(parts)
