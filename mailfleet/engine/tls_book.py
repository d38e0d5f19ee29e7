"""Counting what came of securing sessions with mail hosts, for TLS reports (RFC 8460): in memory, and by seconds in the database.

A process that is killed loses what it counted in the last seconds; nothing else hangs on these counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError, InputError
from mailfleet.base.gauges import Counter as Gauge
from mailfleet.base.gauges import Gauges
from mailfleet.engine.envelope import Envelope
from mailfleet.mail.address import Address
from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.net.smtp_peer import ConnectFailed, Peer, Secured
from mailfleet.policy.tls_results import AppliedPolicy, Fault, begin_ms, day_of, session_fault
from mailfleet.store import tls_results as rows
from mailfleet.store.database import Database
from mailfleet.store.tls_results import Due, Key

log = structlog.get_logger()

FLUSH_S = 3.0
SOON_KEYS = 5000  # written down at once when there are so many
MAX_KEYS = 20_000  # while the database takes nothing; what is beyond is not counted
SPREAD_MS = 4 * 3_600_000  # RFC 8460 4.1: reports of one day leave spread over hours
CLEAR = Fault("starttls-not-supported")
FIRST_MS = 600_000  # and none before every process has written down the day's last sessions


class TlsBook:
    """For one process."""

    def __init__(self, database: Database, gauges: Gauges, clock: Clock, time_scale: float) -> None:
        self._database, self._gauges, self._clock, self._time_scale = database, gauges, clock, time_scale
        self._counts: Counter[Key] = Counter()
        self._policies: dict[str, str] = {}
        self._sessions: dict[tuple[str, str], Gauge] = {}
        self._soon = asyncio.Event()

    def note(
        self,
        domain: str,
        policy: AppliedPolicy,
        fault: Fault | None = None,
        *,
        mx_host: str = "",
        our_ip: str = "",
        remote_ip: str = "",
    ) -> None:
        """One session, or what came in place of it, for a recipient domain. ``fault`` None: it was secured as it should be."""
        result = fault.result if fault is not None else "success"
        counter = self._sessions.get((policy.kind, result))
        if counter is None:
            counter = self._gauges.counter("tls_sessions_total", policy=policy.kind, result=result)
            self._sessions[policy.kind, result] = counter
        counter.n += 1
        text = "\n".join(policy.lines)
        policy_id = hashlib.sha256(text.encode()).hexdigest()[:24] if text else ""
        key = Key(day_of(self._clock.now_ms(), self._time_scale), domain, policy.kind, policy.domain, policy_id, "")
        if fault is not None:
            key = key._replace(
                result=fault.result, reason=fault.reason, mx_host=mx_host, our_ip=our_ip, remote_ip=remote_ip
            )
        if len(self._counts) >= MAX_KEYS and key not in self._counts:
            return
        self._counts[key] += 1
        self._policies[policy_id] = text
        if len(self._counts) >= SOON_KEYS:
            self._soon.set()

    async def run(self) -> None:
        """Write down what was counted, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._soon.wait()
            await self.flush()
            if self._soon.is_set():
                self._soon.clear()
                await self._clock.sleep(0.2)

    async def flush(self) -> None:
        """Write down what was counted; where the database does not take it, at the next time."""
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        policies, self._policies = self._policies, {}
        reports = [
            Due(day, domain, self._due_ms(day, domain))
            for day, domain in sorted({(key.day, key.domain) for key in counts})
        ]
        try:
            await self._database.write(lambda tx: rows.add(tx, counts, policies, reports))
        except BusyError as error:
            log.warning("results of TLS wait", reason=error.reason)
            self._counts.update(counts)
            self._policies |= policies

    def _due_ms(self, day: int, domain: str) -> int:
        """When the report of a day may leave: the same whoever asks."""
        spread_ms = int.from_bytes(hashlib.sha256(domain.encode()).digest()[:4], "big") % SPREAD_MS
        wait_ms = max((FIRST_MS + spread_ms) / self._time_scale, 2 * FLUSH_S * 1000)
        return begin_ms(day + 1, self._time_scale) + round(wait_ms)


class Session:
    """One session that is being opened with a mail host. ``domain`` empty, or no ``book``: it is not counted."""

    def __init__(self, book: TlsBook | None, domain: str, policy: AppliedPolicy, peer: Peer) -> None:
        self._book, self._domain, self.policy, self._peer = book, domain, policy, peer
        self._fault: Fault | None = None

    def wrong(self, fault: Fault, our_ip: str = "") -> None:
        """This is wrong with it, whether it goes on all the same or not. Counted once."""
        if self._fault is not None:
            return
        self._fault = fault
        if self._book is not None and self._domain:
            self._book.note(
                self._domain, self.policy, fault, mx_host=self._peer.host, our_ip=our_ip, remote_ip=self._peer.ip
            )

    def failed(self, error: ConnectFailed) -> None:
        """It could not be opened so. What has nothing to do with TLS is not counted."""
        if error.phase == "tls":
            fault = session_fault(
                error.failure,
                refusal=str(error.reply) if error.reply is not None else "",
                verify_code=error.verify_code,
                words=error.reason or error.detail,
                policy=self.policy.kind,
            )
            self.wrong(fault, error.local_ip)
        error.secured = self._secured()

    def opened(self, connection: SmtpConnection) -> SmtpConnection:
        """It is open."""
        if not connection.tls_info:
            self.wrong(CLEAR, connection.local_ip)
        elif self._fault is None and self._book is not None and self._domain:
            self._book.note(self._domain, self.policy)
        connection.secured = self._secured()
        return connection

    def _secured(self) -> Secured:
        """A session in the clear where nobody demands more is told by what is missing of its TLS."""
        fault, label = self._fault, self.policy.label
        return Secured(label, "" if fault is None or (not label and fault == CLEAR) else str(fault))


def counted_domain(address: str, envelope: str | None) -> str:
    """The recipient domain (A-label) that a session for a delivery is counted under; empty: it is not."""
    if Envelope.load(envelope).tls == "any":  # RFC 8460 3: reports are in no report
        return ""
    try:
        domain = Address.parse(address).domain
    except InputError:
        return ""
    return "" if domain.startswith("[") else domain
