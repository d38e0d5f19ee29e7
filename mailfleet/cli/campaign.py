"""``mailfleet campaign``: look at campaigns and steer them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.frame import DataOption, JsonOption, group
from mailfleet.cli.report import print_report
from mailfleet.cli.send import wait_and_report
from mailfleet.cli.watch import Pace, progress_line

app = group("campaign", "Look at campaigns and steer them.")

CampaignArgument = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id, cmp_...")]


@app.command("list")
def list_campaigns(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most this many, newest first.")] = 20,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List campaigns, newest first."""
    with Api.open(data) as api:
        views = list(api.pages("/v1/campaigns", limit=limit))
    if as_json:
        for view in views:
            show.json_line(view)
        return
    if not views:
        show.say(show.stdout(), "No campaign yet. Send one: mailfleet send --help")
        return
    _print_campaigns(views)


def _print_campaigns(views: list[dict[str, Any]]) -> None:
    """One row each; a narrow terminal goes without the time, which the order tells too."""
    console = show.stdout()
    numbers = ("recipients", "delivered", "bounced", "expired", "pending")
    columns = ["campaign", "name", "state", "created (UTC)", *numbers]
    rows = [
        [
            view["campaign"],
            show.shorten(view["name"], 40),
            view["state"],
            show.moment(view["created_at"]),
            *(show.number(view[name]) for name in numbers),
        ]
        for view in views
    ]
    if console.is_terminal and console.width < 130:
        del columns[3]
        rows = [[*row[:3], *row[4:]] for row in rows]
    show.table(console, columns, rows, right=numbers, whole=("campaign", "state", "created (UTC)"))


@app.command("show")
def show_campaign(campaign: CampaignArgument, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Show one campaign: progress, providers, bounce classes."""
    with Api.open(data) as api:
        view = api.get(path_of("campaigns", campaign))
        if as_json:
            show.json_line(view)
        else:
            show.say(show.stdout(), f"{view['sender']}: {view['subject']}")
            print_report(api, view, data)


@app.command("watch")
def watch(campaign: CampaignArgument, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Watch a campaign until every recipient has an outcome, then report. Ctrl-C stops the watching only."""
    wait_and_report(data, campaign, as_json=as_json)


@app.command("rate")
def rate(
    campaign: CampaignArgument,
    rates: Annotated[str, typer.Argument(metavar="RATE", help="50/s, 1000/h, '10/s 20000/d'; '' for any.")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Set how fast a campaign may go from now on."""
    with Api.open(data) as api:
        answer = api.put(path_of("campaigns", campaign, "rate"), {"rate": rates})
    if as_json:
        show.json_line(answer)
    else:
        show.say(show.stdout(), f"{campaign} goes at {answer['rate'] or 'any rate'}.")


@app.command("pause")
def pause(
    campaign: CampaignArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever looks at it later.")] = "",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Stop sending for now; attempts under way end as they end."""
    with Api.open(data) as api:
        _tell(api.post(path_of("campaigns", campaign, "pause"), {"reason": reason}), as_json)


@app.command("resume")
def resume(campaign: CampaignArgument, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Go on with a paused campaign."""
    with Api.open(data) as api:
        _tell(api.post(path_of("campaigns", campaign, "resume")), as_json)


@app.command("cancel")
def cancel(campaign: CampaignArgument, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Give up what is still queued, for good."""
    with Api.open(data) as api:
        _tell(api.post(path_of("campaigns", campaign, "cancel")), as_json)


@app.command("deliveries")
def deliveries(
    campaign: CampaignArgument,
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="Only this state: delivered, bounced, queued ...")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most this many.")] = 100,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List the deliveries of a campaign with their last outcome."""
    with Api.open(data) as api:
        found = api.pages(path_of("campaigns", campaign, "deliveries"), {"state": state}, limit=limit)
        if as_json:
            for delivery in found:
                show.json_line(delivery)
            return
        rows = list(found)
    if not rows:
        show.say(show.stdout(), "No delivery matches.")
        return
    show.table(
        show.stdout(),
        ("delivery", "recipient", "state", "provider", "tries", "class", "reason"),
        [
            (
                row["delivery"],
                row["recipient"],
                row["state"],
                row["provider"],
                row["attempts"],
                row["bounce_class"],
                show.shorten(row["reason"], 120),
            )
            for row in rows
        ],
        right=("tries",),
        whole=("delivery",),
    )


def _tell(view: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.json_line(view)
    else:
        show.say(
            show.stdout(), f"{view['name']} ({view['campaign']}) is {view['state']}. {progress_line(view, Pace())}"
        )
