"""The nightly mail of what changed and what is wrong: its words as plain text and as HTML. Pure; times in milliseconds.

Findings carry what strangers have in the DNS; in the text no character of theirs can move a cursor, in the HTML none is a tag.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.base.clock import rfc3339
from mailfleet.policy.dns_checks import Check

WIDTH = 76
MAX_FOUND = 300  # characters of what the DNS holds; what is expected is for copying, and stands whole
_RANK = {"failed": 0, "unknown": 1, "warning": 2, "ok": 3}
_GRAVE = ("failed", "expired")
_LIGHT = ("ok", "active", "old")


class Finding(NamedTuple):
    """How a check of a domain stands. ``before``: the states that it had since the last digest, oldest first; empty: no change."""

    domain: str
    check: Check
    since_ms: int
    before: tuple[str, ...] = ()


class KeyNews(NamedTuple):
    """A DKIM key that changed its stage, or waits. ``until_ms``: when an ``old`` one leaves the DNS."""

    domain: str
    selector: str
    stage: str
    since_ms: int
    until_ms: int = 0


class PolicyNews(NamedTuple):
    """A DMARC policy that went on, or back, by what reports show."""

    domain: str
    before: str
    now: str
    at_ms: int
    why: str


class CertificateNews(NamedTuple):
    """A certificate that ends soon or cannot be had. ``until``: its end in RFC 3339, empty where there is none."""

    host: str
    state: str
    until: str
    problem: str


@dataclass(frozen=True, slots=True)
class Digest:
    """What there is to tell. ``wrong`` failed before the last digest already; ``advice`` is not right and keeps no mail back."""

    hostname: str
    since_ms: int
    now_ms: int
    changed: tuple[Finding, ...] = ()
    wrong: tuple[Finding, ...] = ()
    advice: tuple[Finding, ...] = ()
    keys: tuple[KeyNews, ...] = ()
    certificates: tuple[CertificateNews, ...] = ()
    policies: tuple[PolicyNews, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing changed and nothing is wrong; advice alone is no news."""
        return not (self.changed or self.wrong or self.keys or self.certificates or self.policies)


class _Item(NamedTuple):
    """One thing, as both forms show it: ``rows`` are ``(label, value)``."""

    mark: str
    title: str
    state: str
    lines: tuple[str, ...]
    rows: tuple[tuple[str, str], ...] = ()


def subject(digest: Digest) -> str:
    """The counts that decide whether it is opened now."""
    failed = sum(one.check.state == "failed" for one in (*digest.changed, *digest.wrong))
    right = sum(one.check.state == "ok" for one in digest.changed)
    other = len(digest.changed) + len(digest.wrong) - failed - right
    counts = (
        (failed, "check fails", "checks fail"),
        (right, "right again", "right again"),
        (other, "to look at", "to look at"),
        (len(digest.certificates), "certificate in trouble", "certificates in trouble"),
        (len(digest.keys), "key on its way", "keys on their way"),
        (len(digest.policies), "DMARC policy changed", "DMARC policies changed"),
    )
    said = ", ".join(f"{n} {one if n == 1 else many}" for n, one, many in counts if n)
    return f"Mailfleet at {digest.hostname}: {said or 'all is well'}"


def text(digest: Digest) -> str:
    """As plain text, lines ending in LF; records and commands, which are for copying, are not broken over lines."""
    blocks = [_wrap(_opening(digest))]
    for heading, items in _sections(digest):
        blocks.append(heading.upper())
        blocks += [_text_item(one) for one in items]
    blocks.append("--\n" + "\n".join(_wrap(line) for line in _closing()))
    return "\n\n".join(blocks) + "\n"


def html_text(digest: Digest) -> str:
    """As HTML for mail readers: one column, light and dark, no picture and nothing from elsewhere."""
    parts = [f"<p>{html.escape(_opening(digest))}</p>"]
    for heading, items in _sections(digest):
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        parts += [_html_item(one) for one in items]
    closing = "<br>".join(html.escape(line) for line in _closing())
    parts.append(f'<p class="closing">{closing}</p>')
    return _FRAME.format(style=_STYLE, title=html.escape(subject(digest)), body="\n".join(parts))


def _opening(digest: Digest) -> str:
    since, now = _moment(digest.since_ms), _moment(digest.now_ms)
    if digest.empty:
        return f"All is well at {digest.hostname}, and nothing has changed since {since} UTC."
    return f"What changed and what is wrong at {digest.hostname}, from {since} to {now} UTC."


def _closing() -> tuple[str, ...]:
    return (
        "See how things stand now: mailfleet domain check DOMAIN",
        "See this mail before it is sent: mailfleet domain digest",
        "Who gets it and when is set by digest.to and digest.at.",
    )


def _sections(digest: Digest) -> list[tuple[str, list[_Item]]]:
    found = [
        ("What changed", [_finding(one) for one in _by_rank(digest.changed)]),
        ("DMARC policies", [_policy(one) for one in digest.policies]),
        ("Still wrong", [_finding(one) for one in _by_rank(digest.wrong)]),
        ("Certificates", [_certificate(one) for one in digest.certificates]),
        ("DKIM keys", [_key(one) for one in digest.keys]),
        ("Not right, but keeps no mail back", [_finding(one) for one in _by_rank(digest.advice)]),
    ]
    return [(heading, items) for heading, items in found if items]


def _by_rank(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: (_RANK[one.check.state], one.domain, one.check.name))


def _finding(one: Finding) -> _Item:
    check = one.check
    rows = []
    if check.state != "ok":
        found = _plain(check.found)
        rows.append(("found", found if len(found) <= MAX_FOUND else f"{found[:MAX_FOUND]} ..."))
        rows.append(("expected", _plain(check.expected) if check.state != "unknown" else ""))
        rows.append(("next step", _plain(check.next_step)))
    return _Item(
        check.state,
        f"{one.domain}  {check.name}",
        _states(one.before, check.state, f"since {_moment(one.since_ms)} UTC"),
        (_plain(check.meaning),),
        tuple((label, value) for label, value in rows if value),
    )


def _states(before: Sequence[str], state: str, since: str) -> str:
    """``was ok, now failed since ...``; what came and went in between is named once."""
    if not before:
        return f"{state} {since}"
    if before[0] != state:
        return f"was {before[0]}, now {state} {since}"
    between = ", ".join(dict.fromkeys(one for one in before if one != state))
    return f"{state} again {since}; in between {between}"


def _key(one: KeyNews) -> _Item:
    since = f"since {_moment(one.since_ms)} UTC"
    said: dict[str, tuple[str, str, str]] = {
        "active": ("signs", "Mail of the domain is signed with this key.", ""),
        "old": (
            "signs no more",
            f"Its record stays for mail under way, until {_moment(one.until_ms)} UTC.",
            "nothing; where the zone is run by hand, remove the record then",
        ),
        "next": (
            "waits",
            "Not every name server has this key yet, so the old one goes on signing.",
            f"publish its record if the zone is run by hand (mailfleet domain plan {one.domain}), else mend its name servers",
        ),
        "leaked": (
            "leaked, and still signs",
            "It signs until every name server has the next key.",
            f"publish the next key's record: mailfleet domain plan {one.domain}",
        ),
    }
    state, meaning, step = said[one.stage]
    rows = (("next step", step),) if step else ()
    return _Item(one.stage, f"{one.domain}  {one.selector}", f"{state} {since}", (meaning,), rows)


def _policy(one: PolicyNews) -> _Item:
    state = f"was p={one.before}, now p={one.now} since {_moment(one.at_ms)} UTC"
    rows = (("see", f"mailfleet dmarc show {one.domain}"),)
    return _Item("active", one.domain, state, (_plain(one.why),), rows)


def _certificate(one: CertificateNews) -> _Item:
    until = one.until[:16].replace("T", " ")
    state, meaning = {
        "ok": (f"good until {until} UTC", "It could not be renewed so far; there is time left."),
        "waiting": ("there is none yet", "The host cannot be reached over TLS with a certificate that is good for it."),
        "expiring": (f"ends {until} UTC", "It should have been renewed by now."),
        "expired": (f"ended {until} UTC", "Whoever looks at certificates does not connect to this host any more."),
    }[one.state]
    rows = (("why", _plain(one.problem)),) if one.problem else ()
    step = f"mend what is said, then: mailfleet certificate renew {one.host}"
    if not one.problem:
        step = f"mailfleet certificate renew {one.host}, or import its successor"
    return _Item(one.state, one.host, state, (meaning,), (*rows, ("next step", step)))


def _text_item(item: _Item) -> str:
    lines = [item.title, _wrap(item.state, "  ")]
    lines += [_wrap(line, "  ") for line in item.lines]
    for label, value in item.rows:
        lead = f"  {label + ':':<11}"
        lines.append(lead + value)
    return "\n".join(lines)


def _html_item(item: _Item) -> str:
    kind = "bad" if item.mark in _GRAVE else "good" if item.mark in _LIGHT else "odd"
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in item.lines)
    rows = "".join(f"<p><b>{label}</b> {_value(label, value)}</p>" for label, value in item.rows)
    title = html.escape(item.title).replace("  ", " &nbsp;")
    return f'<div class="item {kind}"><h3>{title}</h3><p class="state">{html.escape(item.state)}</p>{lines}{rows}</div>'


def _value(label: str, value: str) -> str:
    return f"<code>{html.escape(value)}</code>" if label in ("found", "expected") else html.escape(value)


def _wrap(line: str, lead: str = "") -> str:
    return textwrap.fill(
        line, WIDTH, initial_indent=lead, subsequent_indent=lead, break_long_words=False, break_on_hyphens=False
    )


def _plain(value: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in value)


def _moment(at_ms: int) -> str:
    return rfc3339(at_ms)[:16].replace("T", " ")


_STYLE = """
body { margin: 0; padding: 16px; background: #ffffff; color: #1d2530; font: 16px/1.45 system-ui, Helvetica, Arial, sans-serif; }
.page { max-width: 640px; margin: 0 auto; }
h1 { font-size: 20px; line-height: 1.3; margin: 0 0 12px; }
h2 { font-size: 17px; margin: 28px 0 10px; }
h3 { font-size: 16px; margin: 0; overflow-wrap: anywhere; }
p { margin: 4px 0; }
.item { border-left: 4px solid #8a94a3; padding: 2px 0 2px 12px; margin: 0 0 18px; }
.bad { border-color: #c62828; }
.odd { border-color: #b26a00; }
.good { border-color: #2e7d32; }
.state { font-weight: 600; }
code { font: 14px/1.4 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; word-break: break-word; }
.closing { margin-top: 28px; font-size: 14px; color: #55606e; }
@media (prefers-color-scheme: dark) {
  body { background: #14181d !important; color: #e6e9ed !important; }
  .bad { border-color: #ff6b6b !important; }
  .odd { border-color: #ffb74d !important; }
  .good { border-color: #66bb6a !important; }
  .closing { color: #a7b0bb !important; }
}
"""
_FRAME = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark"><title>{title}</title>\n<style>{style}</style></head>\n'
    '<body><div class="page">\n<h1>{title}</h1>\n{body}\n</div></body></html>\n'
)
