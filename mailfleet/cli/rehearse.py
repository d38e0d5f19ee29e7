"""``mailfleet rehearse``: play a warm-up of weeks in seconds, before it begins."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mailfleet.cli import show
from mailfleet.cli.frame import CliError, JsonOption
from mailfleet.rehearse.play import Played

SOURCES = 4
Models = Annotated[
    str, typer.Option("--model", metavar="MODEL", help="lenient, typical, strict, hostile, or a .toml or .py file.")
]
Days = Annotated[
    int | None,
    typer.Option(
        "--by-day",
        metavar="[DAY]",
        min=0,
        help="Be there by then, or by the last day played: without --sources it finds how many sources that takes.",
    ),
]


class ByDay(TyperCommand):
    """``--by-day`` may stand alone: by the last day that is played."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As always, with the day put in where it is left out."""
        if "--by-day" in args:
            place = args.index("--by-day") + 1
            if place == len(args) or args[place].startswith("-"):
                args = [*args[:place], "0", *args[place:]]
        return super().parse_args(ctx, args)


def rehearse(
    model: Models = "typical",
    plan: Annotated[
        str,
        typer.Option(
            "--plan",
            metavar="PLAN",
            help="adaptive, cautious, standard, fast, sendgrid, ses, sparkpost, hyvor, or a file.",
        ),
    ] = "adaptive",
    target: Annotated[int, typer.Option("--target", metavar="N", min=1, help="Messages wanted a day.")] = 100_000,
    by_day: Days = None,
    sources: Annotated[
        int | None, typer.Option("--sources", metavar="N", min=1, max=200, help="Source addresses; left out: 4.")
    ] = None,
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=400, help="Days to play.")] = 45,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of chance: the same seed plays the same.")] = 1,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", min=1, max=1000, help="Of --compare: plays of each plan.")
    ] = 5,
    compare: Annotated[bool, typer.Option("--compare", help="Play all plans and set them side by side.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the days, as .svg or .png.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Play a warm-up against a model of providers: how much leaves each day, what is deferred, when the target is reached.

    The policy is the one that the server follows, and replies are understood by its rules. The providers are a model, and no
    promise: write your own from what you know (docs/reference/provider-models.md).
    """
    from mailfleet.config import rehearsal

    understand = rehearsal.understanding()

    def once(plan: str, sources: int, seed: int) -> Played:
        return rehearsal.rehearse(
            model=model, plan=plan, target=target, days=days, sources=sources, seed=seed, understand=understand
        )

    if compare:
        _compare(
            {name: [once(name, sources or SOURCES, seed + n) for n in range(seeds)] for name in rehearsal.plans()},
            model,
            as_json,
        )
        return
    by_day = days if by_day == 0 else by_day
    if by_day is not None and sources is None:
        sources = _enough(once, plan, by_day, seed)
    sources = sources or SOURCES
    played = once(plan, sources, seed)
    if plot is not None:
        _draw(played, plot, f"{plan}, {sources} sources, {model} providers")
    _tell(played, plan, model, sources, as_json)
    if by_day is not None and not as_json and (played.days_to_target or days + 1) > by_day:
        show.say(show.stdout(), f"\nThat is too late for day {by_day}: take more sources, or leave --sources out.")


Once = Callable[[str, int, int], Played]


def _enough(once: Once, plan: str, by_day: int, seed: int) -> int:
    """The fewest sources that are there in time. Raises ``CliError`` when 64 are not."""
    for sources in (*range(1, 17), 20, 24, 32, 48, 64):
        reached: int | None = once(plan, sources, seed).days_to_target
        if reached is not None and reached <= by_day:
            return int(sources)
    raise CliError(f"64 sources are not there by day {by_day}", mend="give it more days, or want less")


def _draw(played: Played, path: Path, title: str) -> None:
    from mailfleet.rehearse.chart import png, svg

    if path.suffix == ".svg":
        path.write_text(svg(played, title), "utf-8")
    elif path.suffix == ".png":
        path.write_bytes(png(played, title))
    else:
        raise CliError(f"{path} cannot be drawn", where="--plot", mend="give a name that ends in .svg or .png")


def _tell(played: Played, plan: str, model: str, sources: int, as_json: bool) -> None:
    if as_json:
        show.json_line(
            {
                "plan": plan,
                "model": model,
                "sources": sources,
                "target": played.target,
                "days_to_target": played.days_to_target,
                "deferred_share": played.deferred_share,
                "blocked_source_days": played.blocked_source_days,
                "delivered_by_day": played.delivered_by_day,
                "deferred_by_day": played.deferred_by_day,
                "complaints": played.complaints,
                "bounced": played.bounced,
            }
        )
        return
    console = show.stdout()
    reached = played.days_to_target
    when = f"on day {reached}" if reached else f"not within {len(played.delivered_by_day)} days"
    show.say(console, f"{plan} with {sources} sources and {model} providers: {played.target:,} a day {when},")
    blocked = played.blocked_source_days
    says = f"{100 * played.deferred_share:.2f} % of attempts deferred, {blocked} days on which a source was blocked.\n"
    show.say(console, says)
    rows = [
        (
            str(day),
            show.number(taken),
            show.number(put_off),
            "#" * round(40 * taken / max(1, max(played.delivered_by_day))),
        )
        for day, (taken, put_off) in enumerate(
            zip(played.delivered_by_day, played.deferred_by_day, strict=True), start=1
        )
    ]
    show.table(console, ("day", "delivered", "deferred", ""), rows[: (reached or len(rows)) + 3])


def _compare(played: dict[str, list[Played]], model: str, as_json: bool) -> None:
    """Medians over the seeds."""
    rows = []
    for plan, some in played.items():
        reached = [one.days_to_target for one in some]
        known = [day for day in reached if day is not None]
        days = statistics.median(known) if len(known) == len(some) else None
        deferred = statistics.median(one.deferred_share for one in some)
        blocked = statistics.median(one.blocked_source_days for one in some)
        rows.append((plan, days, deferred, blocked, len(known)))
    if as_json:
        for plan, days, deferred, blocked, known_count in rows:
            show.json_line(
                {
                    "plan": plan, "model": model, "days_to_target": days, "deferred_share": deferred,
                    "blocked_source_days": blocked, "reached": known_count, "seeds": len(played[plan]),
                }
            )  # fmt: skip
        return
    cells = [
        (plan, f"{days:g}" if days is not None else "not", f"{100 * deferred:.2f} %", f"{blocked:g}")
        for plan, days, deferred, blocked, _ in rows
    ]
    show.table(show.stdout(), ("plan", "days to target", "deferred", "blocked source-days"), cells)
