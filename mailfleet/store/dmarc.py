"""What receivers report on mail with our domains in From, and whose a sender is by a person's word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from mailfleet.policy.dmarc_rollout import Judged, Seen
from mailfleet.store.database import Tx

MAX_KINDS = 20_000  # of messages that one answer is made from, the most frequent


class Report(NamedTuple):
    """A report as a whole. ``day``: days since 1970, of its begin; ``policy``: as the receiver found it."""

    id: int
    tenant_id: int
    domain: str
    reporter: str
    report_id: str
    begin_s: int
    end_s: int
    day: int
    policy: str
    messages: int
    passed: int
    at_ms: int


class Row(NamedTuple):
    """Messages of one kind in a report."""

    header_from: str
    ip: str
    dkim: int
    spf: int
    held: int  # 1: quarantined or rejected
    signed_by: str
    known_as: str
    reasons: str
    why: str
    messages: int


class Concern(NamedTuple):
    """Which rows speak of a domain: those that its own policy was found for, and its own ones below policies of ``above``."""

    tenant_id: int
    domain: str
    above: tuple[str, ...]


class Reach(NamedTuple):
    """How far reports go. ``newest``: the last day that has one; 0 where there is none."""

    days: int
    reporters: int
    newest: int


_REPORT = ", ".join(Report._fields)
_ROW = ("report", "n", "tenant_id", "domain", "day", *Row._fields)
_WHERE = "tenant_id = ? AND day >= ? AND (domain = ? OR (domain = ANY (?) AND (header_from = ? OR header_from LIKE ? ESCAPE '!')))"


def add(tx: Tx, report: Report, rows: Sequence[Row]) -> bool:
    """False when it is there already. One that speaks of more messages than before takes its place: some grow over a day."""
    before = tx.row(
        "SELECT id, messages FROM dmarc_report"
        " WHERE tenant_id = ? AND domain = ? AND reporter = ? AND report_id = ? AND begin_s = ?",
        (report.tenant_id, report.domain, report.reporter, report.report_id, report.begin_s),
    )
    if before is not None:
        if report.messages <= before[1]:
            return False
        _remove(tx, before[0])
    marks = ", ".join("?" * len(report))
    tx.run(f"INSERT INTO dmarc_report ({_REPORT}) VALUES ({marks})", tuple(report))
    place = (report.tenant_id, report.domain, report.day)
    tx.fill("dmarc_row", _ROW, [(report.id, number, *place, *row) for number, row in enumerate(rows)])
    return True


def reach(tx: Tx, concern: Concern, since_day: int) -> Reach:
    """Of reports from a day on that speak of a domain."""
    row = tx.row(
        "SELECT count(DISTINCT day), count(DISTINCT reporter), max(day) FROM dmarc_report WHERE id IN"
        f" (SELECT report FROM dmarc_row WHERE {_WHERE})",
        _values(concern, since_day),
    )
    return Reach(*(int(one or 0) for one in row or (0, 0, 0)))


def seen(tx: Tx, concern: Concern, since_day: int, recent_day: int) -> list[Seen]:
    """Messages from a day on, by kind, the most frequent first; ``recent``: of ``recent_day`` and later."""
    kind = "ip, dkim, spf, held, signed_by, known_as, reasons, why"
    rows = tx.rows(
        f"SELECT {kind}, CAST(sum(messages) AS BIGINT), CAST(sum(CASE WHEN day >= ? THEN messages ELSE 0 END) AS BIGINT),"
        f" count(DISTINCT day), max(day) FROM dmarc_row WHERE {_WHERE} GROUP BY {kind} ORDER BY 9 DESC, {kind} LIMIT ?",
        (recent_day, *_values(concern, since_day), MAX_KINDS),
    )
    return [Seen(row[0], bool(row[1]), bool(row[2]), bool(row[3]), *row[4:]) for row in rows]


def by_day(tx: Tx, concern: Concern, since_day: int) -> list[tuple[int, int, int]]:
    """``(day, messages, of these passed)``, the oldest first."""
    rows = tx.rows(
        "SELECT day, CAST(sum(messages) AS BIGINT), CAST(sum(CASE WHEN dkim + spf > 0 THEN messages ELSE 0 END) AS BIGINT)"
        f" FROM dmarc_row WHERE {_WHERE} GROUP BY day ORDER BY day",
        _values(concern, since_day),
    )
    return [(int(row[0]), int(row[1]), int(row[2])) for row in rows]


def stages(tx: Tx, tenant_id: int, domain: str, since_day: int) -> list[tuple[int, str, int]]:
    """``(day, policy, messages)`` by which receivers found a domain's own policy, the oldest first."""
    rows = tx.rows(
        "SELECT day, policy, CAST(sum(messages) AS BIGINT) FROM dmarc_report WHERE tenant_id = ? AND domain = ? AND day >= ?"
        " GROUP BY day, policy ORDER BY day",
        (tenant_id, domain, since_day),
    )
    return [(int(row[0]), str(row[1]), int(row[2])) for row in rows]


def reports(tx: Tx, concern: Concern, limit: int) -> list[Report]:
    """The newest first."""
    rows = tx.rows(
        f"SELECT {_REPORT} FROM dmarc_report WHERE tenant_id = ? AND (domain = ? OR id IN"
        f" (SELECT report FROM dmarc_row WHERE {_WHERE})) ORDER BY day DESC, id DESC LIMIT ?",
        (concern.tenant_id, concern.domain, *_values(concern, 0), limit),
    )
    return [Report(*row) for row in rows]


def judged(tx: Tx, domain_id: int) -> dict[str, Judged]:
    """Senders of whom a person said whose they are."""
    rows = tx.rows("SELECT who, judged FROM dmarc_judgement WHERE domain_id = ?", (domain_id,))
    return {str(row[0]): cast("Judged", row[1]) for row in rows}


def judge(tx: Tx, domain_id: int, verdicts: Mapping[str, Judged], now_ms: int) -> None:
    """``open`` takes back what was said."""
    for who, verdict in verdicts.items():
        tx.run("DELETE FROM dmarc_judgement WHERE domain_id = ? AND who = ?", (domain_id, who))
        if verdict != "open":
            tx.run(
                "INSERT INTO dmarc_judgement (domain_id, who, judged, at_ms) VALUES (?, ?, ?, ?)",
                (domain_id, who, verdict, now_ms),
            )


def has_before(tx: Tx, day: int) -> bool:
    """Whether there are reports of earlier days."""
    return bool(tx.value("SELECT 1 FROM dmarc_report WHERE day < ? LIMIT 1", (day,)))


def forget(tx: Tx, before_day: int, limit: int = 50) -> int:
    """Remove reports of earlier days, some at a time; returns how many went."""
    ids = [
        row[0] for row in tx.rows("SELECT id FROM dmarc_report WHERE day < ? ORDER BY day LIMIT ?", (before_day, limit))
    ]
    for one in ids:
        _remove(tx, one)
    return len(ids)


def policy_domains(tx: Tx, tenant_id: int) -> list[str]:
    """On whose policies there are reports."""
    return [
        str(row[0]) for row in tx.rows("SELECT DISTINCT domain FROM dmarc_report WHERE tenant_id = ?", (tenant_id,))
    ]


def authors(tx: Tx, tenant_id: int, domain: str) -> list[str]:
    """Domains in From that reports on a domain's policy speak of."""
    rows = tx.rows("SELECT DISTINCT header_from FROM dmarc_row WHERE tenant_id = ? AND domain = ?", (tenant_id, domain))
    return [str(row[0]) for row in rows]


def forget_domain(tx: Tx, tenant_id: int, domain: str, limit: int) -> int:
    """Remove reports on a domain's policy, some at a time; returns how many went."""
    rows = tx.rows("SELECT id FROM dmarc_report WHERE tenant_id = ? AND domain = ? LIMIT ?", (tenant_id, domain, limit))
    for row in rows:
        _remove(tx, row[0])
    return len(rows)


def forget_authors(tx: Tx, tenant_id: int, domain: str, header_from: Sequence[str], limit: int) -> int:
    """The same for messages with these in From alone; a report of nothing else goes, the others count what is left."""
    rows = tx.rows(
        "SELECT DISTINCT report FROM dmarc_row WHERE tenant_id = ? AND domain = ? AND header_from = ANY (?) LIMIT ?",
        (tenant_id, domain, list(header_from), limit),
    )
    for row in rows:
        tx.run("DELETE FROM dmarc_row WHERE report = ? AND header_from = ANY (?)", (row[0], list(header_from)))
        left = tx.row(
            "SELECT CAST(sum(messages) AS BIGINT), CAST(sum(CASE WHEN dkim + spf > 0 THEN messages ELSE 0 END) AS BIGINT)"
            " FROM dmarc_row WHERE report = ?",
            (row[0],),
        )
        if left is None or not left[0]:
            _remove(tx, row[0])
        else:
            tx.run("UPDATE dmarc_report SET messages = ?, passed = ? WHERE id = ?", (*left, row[0]))
    return len(rows)


def _remove(tx: Tx, report: int) -> None:
    tx.run("DELETE FROM dmarc_row WHERE report = ?", (report,))
    tx.run("DELETE FROM dmarc_report WHERE id = ?", (report,))


def _values(concern: Concern, since_day: int) -> tuple[object, ...]:
    below = concern.domain.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return (concern.tenant_id, since_day, concern.domain, list(concern.above), concern.domain, f"%.{below}")
