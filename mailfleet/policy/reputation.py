"""From counts to rates, and from rates to brakes, at the thresholds that providers name. Pure.

The denominators are the providers': complaints of what they delivered, bounces of what was attempted. A rate counts only when there
is enough behind it: ``FEW_COMPLAINTS`` complaints, ``FEW_BOUNCES`` bounces, so that one of three is no third.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mailfleet.policy.brakes import Decision

FEW_COMPLAINTS, FEW_BOUNCES = 3, 20
LOOK_BACK_HOURS = 24


class Rates(NamedTuple):
    """Shares, 0 to 1; complaints and engagement of what was delivered, the rest of attempts that ended or were deferred."""

    attempts: int
    delivered: float
    deferred: float
    bounced: float
    complained: float


class Threshold(NamedTuple):
    """Above ``permyriad`` hundredths of a percent: what is done, and whose number it is."""

    rule: str
    permyriad: int
    action: str
    permille: int
    says: str


COMPLAINTS = (
    Threshold("complaints-stop", 30, "stop", 0, "Gmail and Yahoo: never 0.30 %"),
    Threshold("complaints-slow", 10, "slow", 250, "Gmail and Yahoo: stay under 0.10 %"),
)
BOUNCES = (
    Threshold("bounces-stop", 1000, "stop", 0, "above 10 % a list is not what it says it is"),
    Threshold("bounces-slow", 500, "slow", 250, "above 5 % providers take the sender for a spammer"),
)


def rates(counts: Mapping[str, int]) -> Rates:
    """Rates from counts by ``store.counts.Key.what``."""
    delivered, deferred = counts.get("delivered", 0), counts.get("deferred", 0)
    refused = counts.get("bounced", 0) + counts.get("expired", 0)
    attempts = delivered + deferred + refused
    of = max(1, attempts)
    return Rates(attempts, delivered / of, deferred / of, refused / of, counts.get("complaint", 0) / max(1, delivered))


def complaints(counts: Mapping[str, int], *, stream_id: int, provider: str, hour_ms: int) -> Decision | None:
    """What complaints of a stream's mail at a provider lead to; None while they are few. ``hour_ms``: how long an hour is."""
    count, delivered = counts.get("complaint", 0), counts.get("delivered", 0)
    if count < FEW_COMPLAINTS:
        return None
    return _decision(
        COMPLAINTS, count, delivered, "complaints", "delivered", hour_ms, provider=provider, stream_id=stream_id
    )


def bounces(counts: Mapping[str, int], *, hour_ms: int, stream_id: int = 0, campaign_id: int = 0) -> Decision | None:
    """What bounces of a stream or campaign lead to; None while they are few."""
    count = counts.get("bounced", 0)
    ended = count + counts.get("delivered", 0) + counts.get("expired", 0)
    if count < FEW_BOUNCES:
        return None
    return _decision(
        BOUNCES, count, ended, "bounced", "deliveries", hour_ms, stream_id=stream_id, campaign_id=campaign_id
    )


def told_spam_rate(rate: float, *, domain: str, stream_id: int, hour_ms: int) -> Decision | None:
    """What a day's spam rate in Google Postmaster leads to for bulk mail to Gmail; ``rate`` from 0 to 1."""
    for one in COMPLAINTS:
        if rate * 10_000 > one.permyriad:
            reason = (
                f"Google Postmaster: {100 * rate:.2f} % of {domain}'s mail was reported as spam in a day. {one.says}"
            )
            for_ms = LOOK_BACK_HOURS * hour_ms if one.action == "stop" else 6 * hour_ms
            return Decision(
                one.action, one.permille, for_ms, hour_ms, reason, f"postmaster-{one.rule}", f"{rate:.5f}", "reputation",
                0, "gmail", 0, stream_id,
            )  # fmt: skip
    return None


def told_red(address: str, *, egress_id: int, hour_ms: int) -> Decision:
    """What a red day in Microsoft SNDS leads to: more than nine of ten messages went to junk."""
    reason = (
        f"Microsoft SNDS: {address} was red for a day, nearly all of its mail goes to junk: others carry it meanwhile"
    )
    return Decision(
        "reroute",
        0,
        LOOK_BACK_HOURS * hour_ms,
        6 * hour_ms,
        reason,
        "snds-red",
        "RED",
        "reputation",
        egress_id,
        "outlook",
    )


def _decision(
    thresholds: tuple[Threshold, ...],
    count: int,
    of: int,
    what: str,
    among: str,
    hour_ms: int,
    *,
    provider: str = "",
    stream_id: int = 0,
    campaign_id: int = 0,
) -> Decision | None:
    for one in thresholds:
        if count * 10_000 > of * one.permyriad:
            share = 100 * count / max(1, of)
            reason = f"{count} {what} of {of} {among} in {LOOK_BACK_HOURS} hours: {share:.2f} %. {one.says}"
            evidence = f"{count} of {of}"
            for_ms = LOOK_BACK_HOURS * hour_ms if one.action == "stop" else 6 * hour_ms
            return Decision(
                one.action, one.permille, for_ms, hour_ms, reason, one.rule, evidence, "reputation",
                0, provider, 0, stream_id, campaign_id,
            )  # fmt: skip
    return None
