"""DNS questions of ``mail.spf`` and ``mail.dmarc``, answered from the sandbox's own zone: the same answers as over the wire."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TXT
import dns.rrset

from mailfleet.mail.spf import Answer, Question
from mailfleet.sandbox.published import Published
from mailfleet.sandbox.zone import Zone

_MAX_ALIASES = 8
_T = TypeVar("_T")


class Lookups:
    """Answers are those of the moment it is made, and each question is asked once."""

    def __init__(self, zone: Zone, published: Published) -> None:
        published.refresh()
        self._zone = zone
        self._known: dict[Question, Answer] = {}

    def run(self, steps: Generator[Question, Answer, _T]) -> _T:
        """What ``steps`` comes to when its questions are answered."""
        try:
            question = next(steps)
            while True:
                question = steps.send(self.answer(question))
        except StopIteration as ended:
            result: _T = ended.value
            return result

    def answer(self, question: Question) -> Answer:
        """A name that DNS cannot hold is ``missing``."""
        known = self._known.get(question)
        if known is None:
            known = self._known[question] = self._ask(question)
        return known

    def _ask(self, question: Question) -> Answer:
        name = question.name
        for _ in range(_MAX_ALIASES):
            try:
                query = dns.message.make_query(name, question.kind)
            except (dns.exception.DNSException, UnicodeError):
                return Answer("missing")
            response = self._zone.answer(query)
            if response.rcode() != dns.rcode.NOERROR:
                return Answer("missing" if response.rcode() == dns.rcode.NXDOMAIN else "failed")
            if not response.answer:
                return Answer("found")
            found = response.answer[0]
            if found.rdtype != dns.rdatatype.CNAME:
                return Answer("found", _texts(found))
            name = found[0].target.to_text()
        return Answer("failed")


def _texts(found: dns.rrset.RRset) -> tuple[str, ...]:
    texts = []
    for rdata in found:
        if isinstance(rdata, dns.rdtypes.ANY.TXT.TXT):
            texts.append(b"".join(rdata.strings).decode("utf-8", "replace"))
        elif isinstance(rdata, dns.rdtypes.ANY.MX.MX):
            texts.append(f"{rdata.preference} {rdata.exchange.to_text()}")
        else:
            texts.append(rdata.to_text())
    return tuple(texts)
