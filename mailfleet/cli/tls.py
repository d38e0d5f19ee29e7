"""``mailfleet tls``: what came of securing sessions with mail hosts."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api
from mailfleet.cli.frame import DataOption, JsonOption, group
from mailfleet.cli.manage import print_list

app = group("tls", "TLS towards mail hosts.")


@app.callback()
def tls() -> None:
    """TLS towards mail hosts."""


@app.command("results")
def results(
    domain: Annotated[
        str, typer.Argument(metavar="[DOMAIN]", help="Only of this recipient domain.", show_default=False)
    ] = "",
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=3, help="So many days back.")] = 3,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=500, help="At most this many.")] = 500,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show what came of securing sessions, by day, recipient domain and policy."""
    with Api.open(data) as api:
        items = api.get("/v1/tls-results", domain=domain, days=days, limit=limit)["items"]
    print_list(
        items,
        as_json,
        ("day from (UTC)", "domain", "policy", "good", "failed", "how they failed", "report"),
        lambda one: (
            show.moment(one["since"]), one["domain"], _policy(one), show.number(one["succeeded"]),
            show.number(one["failed"]), _kinds(one), one["report"],
        ),
        "No session with a mail host in these days.",
    )  # fmt: skip


def _policy(one: dict[str, Any]) -> str:
    mode = next((line.partition(":")[2].strip() for line in one["policy_lines"] if line.startswith("mode:")), "")
    if one["policy"] == "tlsa":
        return f"tlsa of {one['policy_domain']}"
    return "none" if one["policy"] == "no-policy-found" else f"sts {mode}".rstrip()


def _kinds(one: dict[str, Any]) -> str:
    found: Counter[str] = Counter()
    for failure in one["failures"]:
        found[failure["result"]] += failure["sessions"]
    return ", ".join(f"{name} {show.number(count)}" for name, count in found.most_common())
