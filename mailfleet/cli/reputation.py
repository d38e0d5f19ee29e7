"""``mailfleet reputation``: what came back, in rates, and complaints that are reported by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api
from mailfleet.cli.files import read_text
from mailfleet.cli.frame import DataOption, JsonOption, group
from mailfleet.cli.manage import print_list

app = group("reputation", "Rates of delivery, deferral, bounces and complaints, by whatever is of interest.")


@app.command("show")
def show_rates(
    by: Annotated[
        str,
        typer.Option(
            "--by", metavar="WHAT", help="source, provider, domain, stream, campaign, hour; several with commas."
        ),
    ] = "provider",
    hours: Annotated[int, typer.Option("--hours", metavar="N", min=1, max=2160, help="So many hours back.")] = 24,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Rates of the last hours."""
    with Api.open(data) as api:
        items = api.get("/v1/reputation", by=by, hours=hours)["items"]
    columns = tuple(by.split(","))
    print_list(
        items,
        as_json,
        (*columns, "attempts", "delivered", "deferred", "bounced", "complaints", "mostly refused as"),
        lambda view: _row(columns, view),
        "Nothing was sent in that time.",
    )


@app.command("import")
def take_in(
    form: Annotated[str, typer.Argument(metavar="FORM", help="postmaster (JSON of trafficStats.list) or snds (CSV).")],
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Take in what Google Postmaster or Microsoft SNDS tells of you."""
    text = read_text(file, "FILE")
    with Api.open(data) as api:
        answer = api.post("/v1/reputation/imports", {"form": form, "text": text})
    if as_json:
        show.json_line(answer)
    else:
        show.say(show.stdout(), f"{answer['days']} days were taken in.")


@app.command("complain")
def complain(
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="Its id, dlv_...")],
    origin: Annotated[str, typer.Option("--origin", metavar="TEXT", help="Where it came from.")] = "by hand",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Report a complaint: the address is suppressed, and it counts against the stream."""
    with Api.open(data) as api:
        view = api.post("/v1/complaints", {"delivery": delivery, "origin": origin})
    if as_json:
        show.json_line(view)
    else:
        show.say(show.stdout(), f"{view['address']} gets no more of this mail, and the complaint counts.")


def _row(columns: tuple[str, ...], view: dict[str, Any]) -> tuple[str, ...]:
    worst = ", ".join(f"{name} {show.number(count)}" for name, count in list(view["classes"].items())[:3])
    return (
        *(view["of"][one] or "none" for one in columns),
        show.number(view["attempts"]),
        f"{view['delivered_share']:.1f} %",
        f"{view['deferred_share']:.1f} %",
        f"{view['bounced_share']:.1f} %",
        f"{view['complaint_share']:.2f} %",
        worst,
    )
