"""A DMARC aggregate report as XML (RFC 9990 3.1.1 and its schema). Pure, and it only writes: what it says is found out elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from xml.etree import ElementTree

from mailfleet.mail.dmarc import Discovered

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
GENERATOR = "Mailfleet sandbox"
# XML 1.0 2.2: these cannot stand in a document, escaped or not
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Heading(NamedTuple):
    """Whose report, and of which seconds since the epoch, both ends included."""

    org_name: str
    email: str
    report_id: str
    begin_s: int
    end_s: int


class Row(NamedTuple):
    """Messages of which all this is true. ``dkim`` holds result, domain, selector; ``reason`` type and comment.

    ``disposition`` is ``none``, ``pass``, ``quarantine`` or ``reject``. ``spf_domain`` empty: there was none to ask about.
    """

    messages: int
    source_ip: str
    disposition: str
    dkim_aligned: bool
    spf_aligned: bool
    reason: tuple[str, str] | None
    header_from: str
    envelope_from: str
    dkim: tuple[tuple[str, str, str], ...]
    spf_domain: str
    spf_result: str


def feedback(heading: Heading, found: Discovered, rows: Iterable[Row]) -> bytes:
    """The document in UTF-8. ``found`` has a record, which was found by the public suffix list. Characters that XML
    cannot hold become U+FFFD."""
    root = ElementTree.Element("feedback", {"xmlns": NAMESPACE})
    _add(root, "version", "1.0")
    metadata = _add(root, "report_metadata")
    for name in ("org_name", "email", "report_id"):
        _add(metadata, name, getattr(heading, name))
    days = _add(metadata, "date_range")
    _add(days, "begin", str(heading.begin_s))
    _add(days, "end", str(heading.end_s))
    _add(metadata, "generator", GENERATOR)
    _add_policy(root, found)
    for row in rows:
        _add_record(root, row)
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, "unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _add_policy(root: ElementTree.Element, found: Discovered) -> None:
    record = found.record
    assert record is not None
    policy = _add(root, "policy_published")
    _add(policy, "domain", found.at)
    _add(policy, "discovery_method", "psl")
    _add(policy, "p", record.policy)
    _add(policy, "sp", record.subdomain_policy or record.policy)
    if record.missing_policy is not None:
        _add(policy, "np", record.missing_policy)
    _add(policy, "adkim", record.dkim_mode)
    _add(policy, "aspf", record.spf_mode)
    _add(policy, "testing", "y" if record.testing else "n")


def _add_record(root: ElementTree.Element, row: Row) -> None:
    record = _add(root, "record")
    line = _add(record, "row")
    _add(line, "source_ip", row.source_ip)
    _add(line, "count", str(row.messages))
    evaluated = _add(line, "policy_evaluated")
    _add(evaluated, "disposition", row.disposition)
    _add(evaluated, "dkim", "pass" if row.dkim_aligned else "fail")
    _add(evaluated, "spf", "pass" if row.spf_aligned else "fail")
    if row.reason is not None:
        reason = _add(evaluated, "reason")
        _add(reason, "type", row.reason[0])
        _add(reason, "comment", row.reason[1])
    identifiers = _add(record, "identifiers")
    _add(identifiers, "header_from", row.header_from)
    _add(identifiers, "envelope_from", row.envelope_from)
    results = _add(record, "auth_results")
    for result, domain, selector in row.dkim:
        signature = _add(results, "dkim")
        _add(signature, "domain", domain)
        _add(signature, "selector", selector)
        _add(signature, "result", result)
    if row.spf_domain:
        spf = _add(results, "spf")
        _add(spf, "domain", row.spf_domain)
        _add(spf, "scope", "mfrom")
        _add(spf, "result", row.spf_result)


def _add(parent: ElementTree.Element, name: str, text: str | None = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, name)
    if text is not None:
        child.text = _UNWRITABLE.sub("\ufffd", text)
    return child
