"""DMARC aggregate reports as the simulated providers would send them (RFC 9990, RFC 7489 7.2), worked out from their log.

Signatures were verified as each message came, with the keys of that moment. SPF and the domain's policy are looked up when
the reports are written. No provider acts on a policy, and the reports say so.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mailfleet.base.errors import InputError
from mailfleet.mail import dmarc
from mailfleet.mail.address import domain_to_ascii
from mailfleet.mail.dmarc import Discovered
from mailfleet.mail.spf import Answer, Kind, Question, SpfResult, check_host
from mailfleet.sandbox import catalogue, journal
from mailfleet.sandbox.catalogue import EVERY_OTHER_DOMAIN, ProviderSpec
from mailfleet.sandbox.dmarc_xml import Heading, Row, feedback
from mailfleet.sandbox.journal import Decision
from mailfleet.sandbox.lookups import Lookups
from mailfleet.sandbox.published import Published
from mailfleet.sandbox.signatures import signatures_of
from mailfleet.sandbox.zone import Zone

DAY_S = 86_400
_PERSONAL = re.compile(r"%\{[ls]", re.IGNORECASE)  # RFC 7208 7.2: the answer depends on the local-part
_ADDRESSES: tuple[Kind, ...] = ("MX", "A", "AAAA")


class _Kind(NamedTuple):
    """What messages have in common that stand in one row."""

    client: str
    header_from: str
    envelope_from: str
    spf_domain: str
    spf_result: str
    dkim: str


class _Count:
    """Messages by provider and UTC day, and what cannot be reported."""

    def __init__(self) -> None:
        self.kinds: Counter[tuple[str, int, _Kind]] = Counter()
        self.not_seen = self.no_domain = 0
        self.no_policy: Counter[str] = Counter()


def receiver_of(spec: ProviderSpec) -> str:
    """The domain under which a provider reports: the first that it takes mail for, or the name of its host."""
    first = spec.mx[0][1][0]
    return spec.host if first == EVERY_OTHER_DOMAIN else first


def write(data_dir: Path, folder: Path, address_base: str) -> dict[str, Any]:
    """Write one file for each provider, policy domain and UTC day to ``folder``; files of the same name are replaced.

    ``address_base``: the setting. ``{"files": [...], "messages": n, "left_out": {...}}``; each file with ``file``, ``provider``,
    ``domain``, ``begin`` and ``end`` (seconds), ``messages`` and ``passed``. Messages and what was left out add up to what
    ``report.report`` counts as accepted and refused, repeats included: one for each recipient. Raises ``OSError``.
    """
    published = Published(data_dir)
    specs = {spec.name: spec for spec in catalogue.load()}
    receiver = _Receiver(Lookups(Zone(tuple(specs.values()), address_base, published), published))
    count = receiver.count(one for _, one in journal.read(data_dir))
    rows: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
    for (provider, begin_s, kind), messages in count.kinds.items():
        found = receiver.policy(kind.header_from)
        if found.record is None:
            count.no_policy[kind.header_from] += messages
        else:
            rows[provider, begin_s, found.at].append(receiver.row(kind, messages, found))
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        _write_one(folder, specs[provider], begin_s, receiver.policy(domain), sorted(some, key=_largest_first))
        for (provider, begin_s, domain), some in sorted(rows.items())
    ]
    return {
        "files": files,
        "messages": sum(one["messages"] for one in files),
        "left_out": {
            "no_policy": dict(sorted(count.no_policy.items())),
            "no_domain": count.no_domain,
            "not_seen": count.not_seen,
        },
    }


def _largest_first(row: Row) -> tuple[object, ...]:
    return -row.messages, row.source_ip, row.header_from, row.envelope_from, row.dkim, row.spf_domain, row.spf_result


def _write_one(folder: Path, spec: ProviderSpec, begin_s: int, found: Discovered, rows: list[Row]) -> dict[str, Any]:
    receiver, end_s = receiver_of(spec), begin_s + DAY_S - 1
    heading = Heading(spec.name, f"postmaster@{receiver}", f"{begin_s}.{found.at}@{receiver}", begin_s, end_s)
    path = folder / f"{receiver}!{found.at}!{begin_s}!{end_s}.xml.gz"
    path.write_bytes(gzip.compress(feedback(heading, found, rows), mtime=0))
    return {
        "file": str(path),
        "provider": spec.name,
        "domain": found.at,
        "begin": begin_s,
        "end": end_s,
        "messages": sum(row.messages for row in rows),
        "passed": sum(row.messages for row in rows if row.dkim_aligned or row.spf_aligned),
    }


class _Receiver:
    """SPF and DMARC as of now; each domain and each address is looked into once."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._spf: dict[tuple[str, str], str] = {}
        self._policies: dict[str, Discovered] = {}

    def count(self, decisions: Iterable[Decision]) -> _Count:
        count = _Count()
        for one in decisions:
            if not (one.accepted or one.refused):
                continue
            if not one.signature:
                count.not_seen += 1
            elif not one.header_from:
                count.no_domain += 1
            else:
                begin_s = one.at_ms // 1000 // DAY_S * DAY_S
                count.kinds[one.provider, begin_s, self._kind(one)] += 1
        return count

    def _kind(self, one: Decision) -> _Kind:
        envelope_from = _domain_of(one.sender)
        # RFC 7208 2.4: of a null reverse-path, the HELO name with postmaster
        sender, asked = (one.sender, envelope_from) if one.sender else (f"postmaster@{one.helo}", one.helo)
        if not one.client:  # it was gone before its address could be asked for
            asked = ""
        result = self._spf_result(one.client, asked, sender) if asked else ""
        return _Kind(one.client, one.header_from, envelope_from, asked, result, one.dkim)

    def _spf_result(self, client: str, domain: str, sender: str) -> str:
        known = self._spf.get((client, domain))
        if known is None:
            result, personal = self._lookups.run(_check(client, domain, sender))
            known = result.verdict
            if not personal:
                self._spf[client, domain] = known
        return known

    def policy(self, domain: str) -> Discovered:
        found = self._policies.get(domain)
        if found is None:
            found = self._policies[domain] = self._lookups.run(dmarc.discover(domain))
        return found

    def row(self, kind: _Kind, messages: int, found: Discovered) -> Row:
        signatures = signatures_of(kind.dkim)
        exists = any(self._lookups.answer(Question(kind.header_from, one)).records for one in _ADDRESSES)
        judged = dmarc.judge(
            found,
            kind.header_from,
            spf_domain=kind.spf_domain if kind.spf_result == "pass" else "",
            dkim_domains=[domain for result, domain, _ in signatures if result == "pass"],
            from_exists=exists,
        )
        assert found.record is not None
        asked = found.record.policy_for(subdomain=found.at != kind.header_from, exists=exists)
        return Row(
            messages,
            kind.client,
            "pass" if judged.passed and asked != "none" else "none",
            "dkim" in judged.by,
            "spf" in judged.by,
            None if judged.passed or asked == "none" else _reason(asked, judged.disposition),
            kind.header_from,
            kind.envelope_from,
            signatures,
            kind.spf_domain,
            kind.spf_result,
        )


def _reason(asked: str, disposition: str) -> tuple[str, str]:
    """Why a message that did not pass was not treated as its domain asks (RFC 9990 3.1.6)."""
    if disposition == "none":
        return "policy_test_mode", f"t=y in place of {asked}"
    return "local_policy", f"the sandbox acts on no policy; {disposition} is asked for"


def _check(client: str, domain: str, sender: str) -> Generator[Question, Answer, tuple[SpfResult, bool]]:
    """SPF's result, and whether another local-part might get another one."""
    steps, personal = check_host(client, domain, sender), False
    try:
        question = next(steps)
        while True:
            answer = yield question
            personal = personal or any(_PERSONAL.search(text) for text in answer.records)
            question = steps.send(answer)
    except StopIteration as ended:
        return ended.value, personal


def _domain_of(reverse_path: str) -> str:
    domain = reverse_path.rpartition("@")[2] if "@" in reverse_path else ""
    try:
        return domain_to_ascii(domain) if domain else ""
    except InputError:
        return domain.lower()
