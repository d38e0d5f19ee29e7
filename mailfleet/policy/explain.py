"""``mailfleet explain reply``: one line of text to a reply, and the verdict on it as plain values."""

from __future__ import annotations

import re

from mailfleet.base.errors import InputError
from mailfleet.policy.classify import Classifier
from mailfleet.smtp.reply import Reply

_LINE = re.compile(r"([2345]\d\d)(?:([ -])(.*))?", re.DOTALL)
_PREFIX = re.compile(r"(?:smtp|x-unix|x-postfix)\s*;\s*", re.IGNORECASE)  # Diagnostic-Code of a DSN, RFC 3464 2.3.6
_BREAK = re.compile(r"\\r\\n|\\n|\r\n|\r|\n")
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_MEND = "write the reply as it stands in the log, for example 550 5.1.1 User unknown"


def parse_reply(text: str, where: str = "") -> Reply:
    r"""A reply as people paste it: its lines parted by line breaks, by a written ``\n`` or ``\r\n``, or all run together.

    Each line begins with the code, which the lines after the first may leave out. Raises ``InputError`` with ``where``.
    """
    text = _PREFIX.sub("", text.strip(), count=1)
    first = _LINE.fullmatch(text)
    if not first:
        raise InputError(
            "this is not an SMTP reply: it does not begin with a code of 200 to 599", where=where, mend=_MEND
        )
    code = first[1]
    if first[2] == "-":
        text = re.sub(rf"\s+(?={code}[ -])", "\n", text)
    lines = []
    for piece in _BREAK.split(text):
        again = _LINE.fullmatch(piece)
        lines.append((again[3] or "") if again and again[1] == code else piece)
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    return Reply(int(code), tuple(line.strip() for line in lines))


def parse_line(line: str, number: int = 0) -> tuple[str | None, Reply]:
    """``provider<TAB>reply`` or ``reply``. ``number`` is the line's, 1-based, for the error. Raises ``InputError`` naming it."""
    where = f"line {number}" if number else repr(line[:60])
    provider, tab, rest = line.partition("\t")
    if not tab or _LINE.match(provider.strip()):
        return None, parse_reply(line, where)
    provider = provider.strip().lower()
    if provider and not _PROVIDER.fullmatch(provider):
        raise InputError(
            "what stands before the tab is not a provider",
            where=where,
            mend="write provider<TAB>reply, or the reply alone",
        )
    return provider or None, parse_reply(rest, where)


def explain_line(classifier: Classifier, line: str, number: int = 0) -> dict[str, object]:
    """What the CLI prints for one line: class, verdict, fault, suppress, rule, provider, reply. Raises ``InputError``."""
    provider, reply = parse_line(line, number)
    verdict = classifier.explain(reply, provider).verdict
    return {
        "class": verdict.bounce_class,
        "verdict": verdict.action.value,
        "fault": verdict.fault.value,
        "suppress": verdict.suppress,
        "rule": verdict.rule,
        "provider": provider,
        "reply": str(reply),
    }
