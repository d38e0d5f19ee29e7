"""When an authority wants a certificate renewed (RFC 9773): what its answer says, what is made of it, when it is asked again. Pure.

The authority may have a certificate renewed earlier than we would, never later.
"""

from __future__ import annotations

import hashlib
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import orjson

from mailfleet.base.clock import parse_rfc3339
from mailfleet.base.errors import InputError

HOUR_S = 3600
ROUND_S = 8 * HOUR_S
SILENT_S = 6 * HOUR_S  # RFC 9773 4.3.2, where the authority does not say, and 4.3.3, where it cannot be asked
LEAST_S, MOST_S = HOUR_S, 24 * HOUR_S
YOUNG_S = 24 * HOUR_S  # whoever must revoke has a day for it: what is replaced at that age is replaced in time
MOST_EXPLANATION = 300
_CHANCES = 48  # bits


class Window(NamedTuple):
    """Between which times an authority wants it renewed. ``explanation``: the address of a page for people; often empty."""

    start_ms: int
    end_ms: int
    explanation: str = ""


class Suggestion(NamedTuple):
    """What an authority says of one certificate. ``window`` None: nothing, or nothing to go by; ``problem`` is why then, if it is one.

    ``again_s``: it is to be asked no sooner; None where it does not say.
    """

    window: Window | None = None
    again_s: float | None = None
    problem: str = ""


def read_window(body: bytes) -> Window:
    """Of the answer's JSON (RFC 9773 4.2). Raises ``InputError``."""
    try:
        told = orjson.loads(body)
        start_ms, end_ms = (parse_rfc3339(told["suggestedWindow"][end]) for end in ("start", "end"))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise InputError("it is no renewal information") from None
    if end_ms <= start_ms:  # RFC 9773 4.2: as good as no answer
        raise InputError("its window ends before it begins")
    page = told.get("explanationURL")
    shown = isinstance(page, str) and page.startswith("https://") and page.isascii() and page.isprintable()
    return Window(start_ms, end_ms, page if shown and " " not in page and len(page) <= MOST_EXPLANATION else "")


def read_again_s(retry_after: str, now_ms: int) -> float | None:
    """Of ``Retry-After``: seconds, or a date (RFC 9110 10.2.3). None for anything else, and for the past."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        at_s = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at_s - now_ms / 1000 if at_s * 1000 > now_ms else None


def least_pause_s(suggestion: Suggestion) -> float:
    """How long it is not asked again: what it says, but an hour at least and a day at most (RFC 9773 4.3.2)."""
    return min(max(suggestion.again_s or SILENT_S, LEAST_S), MOST_S)


def pause_s(host: str, now_ms: int, least_s: float, time_scale: float) -> float:
    """How long nothing is asked about a host: ``least_s``, then until its own time comes, which it has every eight hours.

    That time is the host's own and the same after every restart: so a restart asks neither about all at once nor, where
    eight hours are enough for the authority, too soon.
    """
    period_ms, least_ms = max(1, round(ROUND_S * 1000 / time_scale)), round(least_s * 1000 / time_scale)
    own_ms = int.from_bytes(hashlib.sha256(host.encode()).digest()[:6], "big")
    return (least_ms + (own_ms - now_ms - least_ms) % period_ms) / 1000


def left_s(ask_ms: int, now_ms: int, time_scale: float) -> float | None:
    """What is left of a pause that was kept; None where none is, or it is longer than any can be: the clock was set back."""
    most_ms = (MOST_S + ROUND_S) * 1000 / time_scale
    return (ask_ms - now_ms) / 1000 if 0 < ask_ms - now_ms <= most_ms else None


def chosen_ms(window: Window, certificate: str) -> int:
    """A moment in the window, evenly spread over certificates. Asked again, the same window gives the same one."""
    seed = f"{window.start_ms} {window.end_ms} {certificate}".encode()
    share = int.from_bytes(hashlib.sha256(seed).digest()[: _CHANCES // 8], "big")
    return window.start_ms + (share * (window.end_ms - window.start_ms) >> _CHANCES)


def planned_ms(own_ms: int, window: Window, certificate: str, *, not_before_ms: int) -> int:
    """When it is renewed: at the chosen moment, if that is earlier than ``own_ms``, which our own margin wants.

    No earlier than ``not_before_ms`` on the authority's word alone: one that wants every new certificate replaced at once
    would have them made without end.
    """
    return min(own_ms, max(chosen_ms(window, certificate), not_before_ms))


def wish(window: Window, now_ms: int) -> str:
    """For people, why it is renewed at once: the window is over (RFC 9773 4.2), as before a revocation. Empty while it is not."""
    if window.end_ms > now_ms:
        return ""
    return f"the authority wants it replaced now{': see ' + window.explanation if window.explanation else ''}"
