"""What people see of TLS towards mail hosts: results of the last days, and how the reports on them stand."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import InputError
from mailfleet.engine.requests import Actor
from mailfleet.engine.shared import LongReads
from mailfleet.engine.tls_reports import KEEP_DAYS, by_policy
from mailfleet.mail.address import domain_to_ascii
from mailfleet.mail.tls_report import PolicyResults
from mailfleet.policy.tls_results import begin_ms, day_of
from mailfleet.store import tls_results as rows
from mailfleet.store.database import Tx
from mailfleet.store.tls_results import Result

MAX_RESULTS = 50_000  # counts that one answer is made from


class TlsFailureView(BaseModel):
    """Sessions that failed in one way."""

    model_config = ConfigDict(frozen=True)

    result: str = Field(description="A result type of RFC 8460 4.3, for example `certificate-host-mismatch`.")
    reason: str
    mx: str = Field(description="The mail host, or the host of an MTA-STS policy.")
    ip: str
    source_ip: str = Field(description="Our address.")
    sessions: int


class TlsResultView(BaseModel):
    """What came of securing sessions for one recipient domain on one day, under one policy."""

    model_config = ConfigDict(frozen=True)

    since: str = Field(description="When the day began.")
    domain: str
    policy: str = Field(description="`tlsa`, `sts` or `no-policy-found`.")
    policy_domain: str = Field(description="Whose the policy is: of TLSA records the mail host.")
    policy_lines: list[str]
    succeeded: int
    failed: int
    failures: list[TlsFailureView]
    report: str = Field(
        description="The report on the day: `waiting`, `posting`, `sent`, `unasked` (the domain wants none), `failed`."
    )


class TlsResults:
    """For one process."""

    def __init__(self, reads: LongReads, clock: Clock, time_scale: float) -> None:
        self._reads, self._clock, self._time_scale = reads, clock, time_scale

    async def find(
        self, actor: Actor, *, domain: str = "", days: int = KEEP_DAYS, limit: int = 500
    ) -> list[TlsResultView]:
        """The newest days first; of one recipient domain or of all. Raises ``InputError``."""
        del actor  # mail hosts are the same for every tenant
        name = None
        if domain:
            try:
                name = domain_to_ascii(domain.strip().rstrip("."))
            except InputError as error:
                raise InputError(error.what, where="domain", mend=error.mend) from None
        first = day_of(self._clock.now_ms(), self._time_scale) - days + 1

        def work(tx: Tx) -> tuple[list[Result], dict[tuple[int, str], str]]:
            return rows.since(tx, first, name, MAX_RESULTS), rows.states(tx, first, name, MAX_RESULTS)

        results, states = await self._reads.read(work)
        places: dict[tuple[int, str], list[Result]] = {}
        for one in results:
            places.setdefault((one.key.day, one.key.domain), []).append(one)
        views = (
            self._view(place, policy, states.get(place, "waiting"))
            for place, group in places.items()
            for policy in by_policy(group)
        )
        return [view for view, _ in zip(views, range(limit), strict=False)]

    def _view(self, place: tuple[int, str], policy: PolicyResults, report: str) -> TlsResultView:
        failures = [
            TlsFailureView(
                result=one.result,
                reason=one.reason,
                mx=one.mx_host,
                ip=one.receiving_ip,
                source_ip=one.sending_ip,
                sessions=one.sessions,
            )
            for one in policy.failures
        ]
        return TlsResultView(
            since=rfc3339(begin_ms(place[0], self._time_scale)),
            domain=place[1],
            policy=policy.kind,
            policy_domain=policy.domain,
            policy_lines=list(policy.lines),
            succeeded=policy.successes,
            failed=sum(one.sessions for one in policy.failures),
            failures=failures,
            report=report,
        )
