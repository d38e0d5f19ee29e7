"""One try as the lane saw it, and what is told of it: its event, its signal to shaping, its words."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from mailfleet.base.clock import rfc3339
from mailfleet.engine.catalog import FlowView
from mailfleet.policy.classify import BOUNCE_CLASSES
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.policy.outcome import Action, Failure, Outcome, Verdict
from mailfleet.policy.retry import RetryDecision
from mailfleet.policy.shaping import Signal
from mailfleet.store.queue import Claimed

_NOT_FROM_HERE = (Failure.UNREACHABLE, Failure.CONNECTION_REFUSED, Failure.CONNECTION_TIMEOUT)


class Attempt(NamedTuple):
    """One try as the lane saw it."""

    claimed: Claimed
    outcome: Outcome
    provider: str
    transcript: str = ""
    tls: str = ""
    seconds: float = 0
    message_id: str = ""
    hung_up: int = 0  # connections that ended under it without a word before this one: a repeat is possible
    dsn_passed_on: bool = False  # the remote took our NOTIFY, so success is its to tell
    source: str = ""  # the way out, by name
    elsewhere: bool = False  # other ways out of its pool could take it now
    domain: str = ""  # the sending domain, where the message was made


def event_of(attempt: Attempt, verdict: Verdict, attempts: int, decision: RetryDecision | None) -> str:
    """The data of the event that tells of an attempt, as JSON; what is not known is left out."""
    outcome = attempt.outcome
    event: dict[str, object] = {"attempt": attempts, "phase": outcome.phase}
    if outcome.reply is not None:
        event["reply"] = str(outcome.reply)
    if outcome.failure:
        event["failure"] = outcome.failure
    if outcome.detail:
        event["detail"] = outcome.detail
    event["class"], event["fault"], event["rule"] = verdict.bounce_class, verdict.fault, verdict.rule
    if outcome.mx_host:
        event["mx"] = outcome.mx_host
    if outcome.remote_ip:
        event["ip"] = outcome.remote_ip
    if attempt.provider:
        event["provider"] = attempt.provider
    if attempt.source:
        event["source"] = attempt.source
    if attempt.tls:
        event["tls"] = attempt.tls
    if outcome.tls_policy:
        event["tls_policy"] = outcome.tls_policy
    if outcome.tls_fault:
        event["tls_fault"] = outcome.tls_fault
    if attempt.hung_up:
        event["hung_up"] = attempt.hung_up
    event["seconds"] = round(attempt.seconds, 3)
    if decision is not None and decision.due_ms:
        event["due_at"] = rfc3339(decision.due_ms)
    if attempt.transcript:
        event["transcript"] = attempt.transcript
    return orjson.dumps(event).decode()


def leaves_elsewhere(outcome: Outcome, verdict: Verdict) -> bool:
    """Whether the next attempt should leave by another way: the remote's words are about this one, or it cannot get through."""
    return outcome.failure in _NOT_FROM_HERE or (
        outcome.reply is not None and BOUNCE_CLASSES[verdict.bounce_class].other_source
    )


def signal_of(attempt: Attempt, verdict: Verdict, flow: FlowView | None, now_ms: int) -> Signal:
    """What shaping is told."""
    claimed, reply = attempt.claimed, attempt.outcome.reply
    return Signal(
        now_ms,
        claimed.egress_id,
        attempt.provider,
        claimed.site_id,
        flow.flow.stream_id if flow else 0,
        attempt.outcome.phase,
        verdict.bounce_class,
        verdict.rule,
        str(reply) if reply is not None else "",
    )


def state_after(verdict: Verdict, decision: RetryDecision | None) -> DeliveryState:
    """The state that a delivery goes to."""
    if verdict.action is Action.DELIVER:
        return DeliveryState.DELIVERED
    if verdict.action is Action.BOUNCE:
        return DeliveryState.BOUNCED
    assert decision is not None
    return DeliveryState.EXPIRED if decision.due_ms is None else DeliveryState.QUEUED


def words_of(outcome: Outcome) -> str:
    """The remote's words, or what went wrong here."""
    return str(outcome.reply) if outcome.reply is not None else outcome.detail or outcome.failure.value
