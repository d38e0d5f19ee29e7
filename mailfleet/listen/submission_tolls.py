"""What submission counts: connections, messages, and everything it refused, by the reason or the bound that did it."""

from __future__ import annotations

from mailfleet.base.gauges import Counter, Gauges
from mailfleet.smtp.reply import Reply

REASONS = (
    "max_connections",
    "max_connections_per_ip",
    "descriptors",
    "max_buffered_mb",
    "idle_timeout_s",
    "message_timeout_s",
    "stopping",
    "cannot_accept",
    "tls",
    "login",
    "login_busy",
    "full",
    "sender",
    "recipient",
    "message",
    "busy",
    "failed",
)


class Tolls:
    """The counters that all connections of a listener share."""

    def __init__(self, gauges: Gauges) -> None:
        self.gauges = gauges
        self.connections = gauges.counter("submission_connections_total")
        self.messages = gauges.counter("submission_messages_total")
        self._refusals = {reason: gauges.counter("submission_refusals_total", reason=reason) for reason in REASONS}
        self._codes: dict[bytes, Counter] = {}

    def refused(self, reason: str, reply: Reply) -> Reply:
        """Count a refusal; ``reason`` is one of ``REASONS``. Returns the reply."""
        self._refusals[reason].n += 1
        return reply

    def judged(self, reason: str, reply: Reply | None) -> Reply | None:
        """As ``refused`` where there is a reply; None is no refusal."""
        return self.refused(reason, reply) if reply else None

    def lost(self, reason: str) -> None:
        """Count a connection that ended without a reply."""
        self._refusals[reason].n += 1

    def said(self, output: bytes) -> None:
        """Count the refusals among replies that are being sent, by code: the protocol's own included."""
        for line in output.split(b"\r\n"):
            if line[:1] in (b"4", b"5") and line[3:4] == b" ":  # the last line of a reply
                code = line[:3]
                counter = self._codes.get(code)
                if counter is None:
                    counter = self.gauges.counter("submission_replies_total", code=code.decode())
                    self._codes[code] = counter
                counter.n += 1
