"""What is made of answers from the DNS: right, wrong, or not known; what it means, and what to do next. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from mailfleet.base.errors import InputError
from mailfleet.mail.dkim_record import parse_tags
from mailfleet.mail.dmarc import Discovered, Policy, is_stricter
from mailfleet.mail.dmarc import parse as parse_dmarc
from mailfleet.mail.spf import SpfResult
from mailfleet.policy.dns_plan import Wanted, speaks_for_spf

State = Literal["ok", "warning", "failed", "unknown"]
DIFFER = "the servers differ"
CALM = 2  # times that a change for the worse is seen before it counts: DNS that flaps does not flap the state


@dataclass(frozen=True, slots=True)
class Check:
    """A finding. ``servers``: who says so, each with its own words where they differ."""

    name: str
    state: State
    found: str
    expected: str
    meaning: str
    next_step: str = ""
    servers: tuple[str, ...] = ()


class Heard(NamedTuple):
    """What one server says of a name: records, or words in place of them where it gives no answer."""

    server: str
    records: tuple[str, ...] | None
    words: str = ""


class Kept(NamedTuple):
    """A check as it stands over time. ``doubt``: how often in a row something worse was seen that does not count yet."""

    check: Check
    since_ms: int
    seen_ms: int
    doubt: int = 0


def settle(before: Kept | None, now: Check, now_ms: int, *, calm: bool = True) -> Kept:
    """The state after one more look: better at once, worse when it is seen again.

    Not ``calm``: worse at once too, for a person who asks what is there now.
    """
    if before is None:
        return Kept(now, now_ms, now_ms)
    if now.state == before.check.state:
        return Kept(now, before.since_ms, now_ms)
    worse = _RANK[now.state] > _RANK[before.check.state]
    if calm and worse and before.doubt + 1 < CALM:
        return before._replace(doubt=before.doubt + 1)
    return Kept(now, now_ms, now_ms)


CUT_FROM = 16  # characters of a key by which it is known; keys of one kind begin alike
_RANK = {"ok": 0, "warning": 1, "unknown": 2, "failed": 3}


def published(wanted: Wanted, heard: Sequence[Heard], *, zone: str, words: str = "") -> Check:
    """Whether every server has a record of ours, and nothing beside it that spoils it."""
    blank = Check(wanted.check, "unknown", "", f"{wanted.name} {wanted.type} {wanted.value}", "")
    servers = tuple(_server_line(one) for one in heard)
    answers = [one for one in heard if one.records is not None]
    if not answers:
        why = words or "; ".join(one.words for one in heard) or "no server answers"
        return replace(
            blank,
            found=why,
            servers=servers,
            meaning=f"nobody who serves {zone or wanted.name} says anything: receivers see the same",
            next_step="take the alias away, or mend where it leads; then check again"
            if "alias" in words
            else "mend the name servers, or see that this machine reaches them; then check again",
        )
    good = [one for one in answers if _has(wanted, one.records or ())]
    found = _found(answers)
    silent = [one for one in heard if one.records is None]
    check = replace(blank, found=found, servers=servers)
    if not good:
        return _missing(check, wanted, answers)
    if len(good) < len(answers):
        return differ(check, heard, [one.server for one in answers if one not in good])
    beside = _beside(wanted, good[0].records or ())
    if beside:
        return replace(check, state="failed", meaning=beside[0], next_step=beside[1])
    if silent:
        some = "; ".join(f"{one.server}: {one.words}" for one in silent)
        return replace(
            check,
            state="warning",
            meaning=f"it is right where it is answered, but not every name server answers ({some})",
            next_step="mend that name server, or take it out of the NS records here and at the registrar: receivers that ask it"
            " wait or give up",
        )
    return replace(check, state="ok", meaning=wanted.purpose)


def differ(check: Check, heard: Sequence[Heard], other: Sequence[str]) -> Check:
    """Some servers have something else than the rest: ``other`` names them."""
    return replace(
        check,
        state="failed",
        servers=tuple(_server_line(one) for one in heard),
        meaning=f"{DIFFER}, and it depends on chance what a receiver sees: not so at {', '.join(other)}",
        next_step="see that the change reached every name server (the SOA serial, zone transfers), then check again",
    )


def both(first: Check, second: Check) -> Check:
    """Two looks at one thing: right when both are, else the first that is not."""
    return replace(second, name=first.name) if first.state == "ok" else first


def return_path_spf(name: str, results: Sequence[tuple[str, SpfResult]], domain: str) -> Check:
    """SPF as receivers evaluate it, for each address that mail leaves from: ``(source, result)``."""
    expected = "pass for every source"
    bad = [(source, one) for source, one in results if one.verdict != "pass"]
    found = ", ".join(f"{source}: {one.verdict}" for source, one in results)
    if not results:
        return Check(name, "unknown", "", expected, "no source has an address of its own that could be evaluated")
    if not bad:
        most = max(one.lookups for _, one in results)
        return Check(
            name, "ok", f"{found} ({most} of 10 look-ups)", expected, f"receivers accept every source for {domain}"
        )
    source, worst = bad[0]
    state: State = "unknown" if all(one.verdict == "temperror" for _, one in bad) else "failed"
    return Check(
        name,
        state,
        found,
        expected,
        f"mail from {source} with {domain} as return-path gets {worst.verdict}: {worst.why}",
        f"publish the SPF record of {domain} as mailfleet domain plan says" if state == "failed" else "check again",
    )


def dmarc(found: Discovered, domain: str, expected: str) -> Check:
    """Whether a policy speaks for the domain, and how far it goes."""
    if found.failed:
        return Check("dmarc", "unknown", found.problem, expected, "the DNS gives no answer", "check again later")
    if found.record is None:
        meaning = "Gmail, Yahoo and Microsoft refuse bulk mail from domains without DMARC"
        step = f"publish it at _dmarc.{domain}, exactly as expected"
        if found.at:  # something is there
            meaning = "this counts as none, and Gmail, Yahoo and Microsoft refuse bulk mail from domains without DMARC"
            step = (
                f"have exactly one record at _dmarc.{found.at} that begins with v=DMARC1, for example what is expected"
            )
        return Check("dmarc", "failed", found.problem, expected, meaning, step)
    text = str(found.record)
    wanted = parse_dmarc(expected).policy
    if is_stricter(wanted, found.record.policy):
        meaning = f"p={wanted} is set, and receivers find p={found.record.policy}"
        step = "mailfleet domain publish DOMAIN, or put what is expected there by hand"
        return Check("dmarc", "warning", text, expected, meaning, step)
    if found.record.policy == "none":
        return Check(
            "dmarc",
            "ok",
            text,
            expected,
            "receivers report and do nothing: the first stage",
            "have reports sent (mailfleet domain set --dmarc-reports-to) and read (mailfleet dmarc add): they show when to go on",
        )
    return Check(
        "dmarc", "ok", text, expected, f"what pretends to be from {domain} is asked to be held as {found.record.policy}"
    )


def of_next_key(check: Check) -> Check:
    """Of the record of a key that does not sign yet: while it is not everywhere, mail goes on with the key before it."""
    if check.state != "failed":
        return check
    meaning = "the key does not sign yet: it does as soon as every name server has its record"
    return replace(check, state="warning", meaning=meaning)


def policy_found(checks: Iterable[Check]) -> Policy | None:
    """The DMARC policy that receivers find, by the check that looked for it; None where that is not known."""
    for one in checks:
        if one.name == "dmarc" and one.state in ("ok", "warning"):
            return parse_dmarc(one.found).policy
    return None


def no_permission(check: Check, to: str, name: str) -> Check:
    """The policy counts, but nobody sends reports to an address elsewhere without a word from there (RFC 7489 7.1)."""
    return replace(
        check,
        state="warning",
        meaning=f"reports to {to} are not sent: its domain does not say that it wants them",
        next_step=f"have whoever runs it publish v=DMARC1 as TXT at {name}, or name an address of your own",
    )


def ready_for_bulk(checks: Sequence[Check]) -> list[Check]:
    """What keeps a domain from sending bulk: failed checks of what providers demand. Empty: it is ready, as far as is known."""
    demanded = ("dkim:", "spf-return-path", "dmarc", "alignment")
    return [one for one in checks if one.state == "failed" and one.name.startswith(demanded)]


def _has(wanted: Wanted, records: Sequence[str]) -> bool:
    if wanted.type == "TXT" and wanted.check.startswith("dkim:"):
        ours = _key(wanted.value)
        return any(ours is not None and _key(text) == ours for text in records)
    if wanted.type == "TXT":
        return any(" ".join(text.split()) == " ".join(wanted.value.split()) for text in records)
    value = wanted.value.lower().rstrip(".") if wanted.value != "0 ." and wanted.type != "CAA" else wanted.value
    return value in records


def _key(text: str) -> tuple[str, str] | None:
    """Algorithm and key, without the white space that DNS tools put in."""
    try:
        tags = parse_tags(text)
    except InputError:
        return None
    return tags.get("k", "rsa"), "".join(tags.get("p", "").split())


def _missing(check: Check, wanted: Wanted, answers: Sequence[Heard]) -> Check:
    where = f"{wanted.name} ({wanted.type})"
    dkim = wanted.check.startswith("dkim:")
    if not any(one.records for one in answers):
        meaning = f"there is no such record ({wanted.purpose})"
        if dkim:
            meaning = "there is no such record: every signature with this key fails"
        return replace(check, state="failed", meaning=meaning, next_step=f"publish it at {where}, exactly as expected")
    meaning, step = "another record is there", f"replace what is at {where} by what is expected"
    if dkim:
        meaning = _bad_key(wanted.value, [text for one in answers for text in one.records or ()])
        if "cut off" in meaning:
            step += ", the whole of it, in strings of 255 characters at most: mailfleet domain plan DOMAIN --zone"
    elif wanted.type == "MX":
        meaning = "bounces go to another server and never reach us"
        if any(one.records == ("0 .",) for one in answers):
            meaning = "the return-path says that it takes no mail: late bounces never reach us"
    return replace(check, state="failed", meaning=meaning, next_step=step)


def _bad_key(wanted: str, there: Sequence[str]) -> str:
    """What is wrong with DKIM records that are not ours."""
    ours = _key(wanted)
    keys = [found[1] for text in there if (found := _key(text)) is not None]
    for key in keys:
        if ours is not None and CUT_FROM < len(key) < len(ours[1]) and ours[1].startswith(key):
            return f"the key is cut off after {len(key)} of {len(ours[1])} characters: every signature fails"
    if not keys:
        return "what is there is no DKIM record: every signature fails"
    if not any(keys):
        return "the record says that the key is revoked (p= is empty): every signature fails"
    return "another key is there than the one that signs: every signature fails"


def _beside(wanted: Wanted, records: Sequence[str]) -> tuple[str, str] | None:
    """What stands beside a right record and spoils it."""
    if wanted.type == "TXT" and wanted.value.startswith("v=spf1") and len(speaks_for_spf(records)) > 1:
        return "two SPF records: receivers then count neither (permerror)", "keep one: merge them, or remove the other"
    alike = [text for text in records if version_of(text) == version_of(wanted.value) != ""]
    if wanted.check in ("mta-sts", "tls-rpt", "bimi") and len(alike) > 1:  # RFC 8461 3.1, RFC 8460 3
        return "two records of this kind: others then act as if there were none", "remove the one that is not ours"
    if wanted.check.startswith("dkim:") and len(records) > 1:
        return "two records for one selector: receivers may take either", "remove the one that is not ours"
    if wanted.type == "MX" and wanted.manner == "own" and len(records) > 1:
        return (
            "another mail host stands beside ours: late bounces may go there",
            "remove the other MX records at this name",
        )
    return None


def version_of(text: str) -> str:
    """``v=STSv1`` and the like; empty where there is none."""
    first = text.partition(";")[0].strip()
    return first if first.startswith("v=") else ""


def _found(answers: Sequence[Heard]) -> str:
    found = dict.fromkeys(text for one in answers for text in one.records or ())
    return " | ".join(found) or "nothing"


def _server_line(one: Heard) -> str:
    if one.records is None:
        return f"{one.server}: {one.words}"
    return f"{one.server}: {' | '.join(one.records) or 'nothing'}"
