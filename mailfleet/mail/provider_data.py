"""What providers tell senders of themselves, by day: Google Postmaster Tools (API v1, ``trafficStats``), Microsoft SNDS (CSV).

Shapes: the reference of the Postmaster Tools API (domains.trafficStats), and the data page of Microsoft SNDS.
"""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import re
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from mailfleet.base.errors import InputError

DAY_S = 86_400
_NAME = re.compile(r"domains/([^/]{1,253})/trafficStats/(\d{4})(\d\d)(\d\d)")
_RATIOS = (
    "userReportedSpamRatio",
    "spfSuccessRatio",
    "dkimSuccessRatio",
    "dmarcSuccessRatio",
    "inboundEncryptionRatio",
    "outboundEncryptionRatio",
)
_REPUTATIONS = ("HIGH", "MEDIUM", "LOW", "BAD", "REPUTATION_CATEGORY_UNSPECIFIED")
_COLOURS = ("GREEN", "YELLOW", "RED")
_SNDS_FIELDS = 14


class ProviderDay(NamedTuple):
    """A day of a domain or an address: ``day`` since 1970, ``data`` as the provider names it, ratios from 0 to 1."""

    subject: str
    day: int
    data: dict[str, Any]


def postmaster(text: str) -> list[ProviderDay]:
    """Days of domains from the answer of ``trafficStats.list``. Raises ``InputError`` naming the entry and field."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"this is no JSON: {error}", mend="give the answer of trafficStats.list as it came") from None
    stats = found.get("trafficStats") if isinstance(found, dict) else None
    if not isinstance(stats, list):
        raise InputError(
            "trafficStats is missing", where="trafficStats", mend="give the answer of trafficStats.list as it came"
        )
    return [_traffic(one, f"trafficStats {number}") for number, one in enumerate(stats, start=1)]


def _traffic(one: Any, where: str) -> ProviderDay:
    match = _NAME.fullmatch(str(one.get("name"))) if isinstance(one, dict) else None
    if match is None:
        raise InputError(
            "its name is not domains/DOMAIN/trafficStats/YYYYMMDD", where=where, mend="leave entries as they came"
        )
    day = _day(int(match[2]), int(match[3]), int(match[4]), where)
    data: dict[str, Any] = {}
    for name in _RATIOS:
        if name in one:
            data[name] = _ratio(one[name], f"{where}, {name}")
    if "domainReputation" in one:
        if one["domainReputation"] not in _REPUTATIONS:
            mend = f"one of {', '.join(_REPUTATIONS)}"
            raise InputError(f"{one['domainReputation']!r} is not known", where=f"{where}, domainReputation", mend=mend)
        data["domainReputation"] = one["domainReputation"]
    for name in ("ipReputations", "deliveryErrors", "spammyFeedbackLoops"):
        if name in one:
            if not isinstance(one[name], list):
                raise InputError("a list is expected", where=f"{where}, {name}", mend="leave entries as they came")
            data[name] = one[name]
    return ProviderDay(match[1].lower(), day, data)


def snds(text: str) -> list[ProviderDay]:
    """Days of addresses from SNDS's CSV, which has no headings. Raises ``InputError`` naming the line and column."""
    made = []
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise InputError(f"this is no CSV: {error}", mend="give the file as it came") from None
    for line, row in enumerate(rows, start=1):
        if not row or (line == 1 and row[0].strip().lower().startswith("ip")):
            continue
        where = f"line {line}"
        if len(row) < _SNDS_FIELDS - 2:
            raise InputError(
                f"it has {len(row)} columns, SNDS has {_SNDS_FIELDS}", where=where, mend="give the file as it came"
            )
        cells = [cell.strip() for cell in row] + [""] * (_SNDS_FIELDS - len(row))
        made.append(_activity(cells, where))
    if not made:
        raise InputError("there is no line of data in it", mend="give the file as it came")
    return made


def _activity(cells: list[str], where: str) -> ProviderDay:
    try:
        subject = str(ipaddress.ip_address(cells[0]))
    except ValueError:
        raise InputError(
            f"{cells[0]!r} is no IP address", where=f"{where}, column 1", mend="give the file as it came"
        ) from None
    started = _instant(cells[1], f"{where}, column 2")
    if cells[6].upper() not in _COLOURS:
        raise InputError(
            f"{cells[6]!r} is no filter result", where=f"{where}, column 7", mend=f"one of {', '.join(_COLOURS)}"
        )
    data = {
        "rcptCommands": _count(cells[3], f"{where}, column 4"),
        "dataCommands": _count(cells[4], f"{where}, column 5"),
        "messageRecipients": _count(cells[5], f"{where}, column 6"),
        "filterResult": cells[6].upper(),
        "complaintRate": _percent(cells[7], f"{where}, column 8"),
        "trapHits": _count(cells[10] or "0", f"{where}, column 11"),
        "sampleHelo": cells[11],
    }
    return ProviderDay(subject, int(started.timestamp()) // DAY_S, data)


def _day(year: int, month: int, day: int, where: str) -> int:
    try:
        return (date(year, month, day) - date(1970, 1, 1)).days
    except ValueError:
        raise InputError(
            f"{year:04}{month:02}{day:02} is no day", where=where, mend="leave entries as they came"
        ) from None


def _ratio(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"{value!r} is no ratio", where=where, mend="a number from 0 to 1")
    return float(value)


def _count(text: str, where: str) -> int:
    if not text.replace(",", "").isdigit():
        raise InputError(f"{text!r} is no number", where=where, mend="give the file as it came")
    return int(text.replace(",", ""))


def _percent(text: str, where: str) -> float:
    """``< 0.1%`` as 0.001, the most that it may be."""
    match = re.fullmatch(r"[<>]?\s*(\d{1,3}(?:\.\d+)?)\s*%", text)
    if match is None:
        raise InputError(f"{text!r} is no complaint rate", where=where, mend="as in '< 0.1%' or 1.5%")
    return float(match[1]) / 100


def _instant(text: str, where: str) -> datetime:
    for form in ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise InputError(f"{text!r} is no time", where=where, mend="as in 1/31/2026 12:00 AM")
