"""Settings of retries: when a deferred delivery is tried again, and when it expires."""

from __future__ import annotations

from pydantic import Field

from mailfleet.config.section import Section

_FIRST = "Wait after the first deferral. Doubled after each further one."
_LONGEST = "Longest wait between two attempts."
_EXPIRE = "Counted from acceptance (or send_at); then the delivery expires."
_DELAY_DSN = "When a delay DSN is owed, if the submitter asked for one (RFC 3461 NOTIFY=DELAY)."


class RetrySchedule(Section):
    """When a deferred delivery is tried again."""

    first_delay_s: float
    max_delay_s: float
    expire_after_s: float
    delay_dsn_after_s: float


class TransactionalRetry(RetrySchedule):
    """For mail that somebody is waiting for."""

    first_delay_s: float = Field(60, gt=0, description=_FIRST)
    max_delay_s: float = Field(3600, gt=0, description=_LONGEST)
    expire_after_s: float = Field(2 * 86400, gt=0, description=_EXPIRE)
    delay_dsn_after_s: float = Field(4 * 3600, gt=0, description=_DELAY_DSN)


class BulkRetry(RetrySchedule):
    """For campaigns."""

    first_delay_s: float = Field(300, gt=0, description=_FIRST)
    max_delay_s: float = Field(4 * 3600, gt=0, description=_LONGEST)
    expire_after_s: float = Field(86400, gt=0, description=_EXPIRE)
    delay_dsn_after_s: float = Field(86400, gt=0, description=_DELAY_DSN)


class Retry(Section):
    """Backoff by kind of stream. Every delay is spread by up to a fifth either way."""

    transactional: TransactionalRetry = TransactionalRetry()
    bulk: BulkRetry = BulkRetry()

    def schedule(self, kind: str) -> RetrySchedule:
        """The schedule for streams of a kind, ``bulk`` or ``transactional``."""
        return self.bulk if kind == "bulk" else self.transactional
