"""What a message shows of who it is from: the domain in From, and which signatures hold.

Keys come from the records that sending domains published in the sandbox's DNS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from mailfleet.base.errors import InputError
from mailfleet.mail import dkim
from mailfleet.mail.address_list import parse_address_list
from mailfleet.mail.fields import unfold
from mailfleet.sandbox.published import Published

OK = "ok"
BAD = "bad"
ABSENT = "absent"
_FROM = re.compile(rb"\r\nfrom[ \t]*:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)", re.IGNORECASE)
_MAX_FROM_BYTES = 4096
_MAX_NAME = 253
_BETWEEN = re.compile(r"[\s;]+")


class Seen(NamedTuple):
    """``signature``: ``ok`` when there is one and none fails, ``absent`` without any, else ``bad``.

    ``header_from``: the one domain that From names, in A-labels; empty where it names none or several, or cannot be read.
    ``dkim``: each signature that names a domain as ``result domain selector``, ``;`` between them; the results are those of
    RFC 8601 2.7.1. Domain and selector of a signature that cannot be read are what it says, without white space.
    """

    signature: str
    header_from: str = ""
    dkim: str = ""


NOT_SEEN = Seen("")  # the message did not come whole


class SignatureCheck:
    """Verifies every DKIM-Signature field of every message (RFC 6376 6)."""

    def __init__(self, published: Published) -> None:
        self._lookup = published.txt

    def check(self, message: bytes, head: bytes, now_ms: int) -> Seen:
        """``head`` is the header of ``message``, a CRLF before it."""
        header_from = author_domain(head)
        try:
            results = dkim.verify(message, self._lookup, now_ms=now_ms)
        except InputError:
            return Seen(BAD, header_from)  # a header that cannot be read cannot be verified
        if not results:
            return Seen(ABSENT, header_from)
        good = all(result.result == "ok" for result in results)
        return Seen(OK if good else BAD, header_from, _written(results))


def author_domain(head: bytes) -> str:
    """The domain in From (RFC 7489 6.6.1), as in ``Seen.header_from``; ``head`` is a header, a CRLF before it."""
    found = _FROM.findall(head)
    return _domain(found[0]) if len(found) == 1 and len(found[0]) <= _MAX_FROM_BYTES else ""


@lru_cache(maxsize=4096)
def _domain(value: bytes) -> str:
    try:
        domains = {address.domain for address in parse_address_list(unfold(value).decode("utf-8"))}
    except (InputError, UnicodeDecodeError):
        return ""
    domain = domains.pop() if len(domains) == 1 else ""
    return "" if domain.startswith("[") else domain


def _written(results: Iterable[dkim.SignatureResult]) -> str:
    words = []
    for one in results:
        domain, selector = (_BETWEEN.sub("", text)[:_MAX_NAME] for text in (one.domain, one.selector))
        if domain:
            words.append(f"{'pass' if one.result == 'ok' else one.result} {domain} {selector}")
    return ";".join(words)


def signatures_of(text: str) -> tuple[tuple[str, str, str], ...]:
    """``Seen.dkim`` read back: result, domain, selector of each."""
    found = []
    for one in text.split(";") if text else ():
        result, domain, selector = one.split(" ")
        found.append((result, domain, selector))
    return tuple(found)
