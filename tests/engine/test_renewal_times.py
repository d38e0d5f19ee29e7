"""An authority that suggests when to renew: asked now and then, followed where it is earlier, and never trusted with the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from cryptography import x509

from mailfleet.base.clock import parse_rfc3339
from mailfleet.engine.certificate_views import CertificateView
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.issuing import IssueError
from mailfleet.net.tls_keys import new_key
from mailfleet.policy.renewal_info import HOUR_S, ROUND_S, Suggestion, Window
from tests.engine.plant import HOST, NOW_MS, OWNER, Plant
from tests.net.handshakes import AUTHORITY

HOUR_MS, DAY_S = HOUR_S * 1000, 24 * HOUR_S
DAY_MS = DAY_S * 1000
OWN_MS = NOW_MS - DAY_MS + 91 * DAY_MS * 2 // 3  # certificates of AUTHORITY began a day ago
PAGE = "https://authority.example/incident"
WISH = f"the authority wants it replaced now: see {PAGE}"


class _Advising:
    """An authority that makes what is asked for and says ``says``, of each certificate that it is asked about."""

    name = "acme"

    def __init__(self, plant: Plant) -> None:
        self._clock = plant.clock
        self.says = Suggestion()
        self.asked_ms: list[int] = []
        self.replaced: list[str] = []
        self.fails = ""
        self.again_s: float | None = None
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def suggested(self, chain: str) -> Suggestion:
        self.asked_ms.append(self._clock.now_ms())
        if self.meanwhile is not None:
            await self.meanwhile()
        return self.says

    async def tidy(self) -> None:
        pass

    async def issue(self, host: str, key: bytes, old: str = "") -> str:
        if self.fails:
            error = IssueError(self.fails)
            error.again_s = self.again_s
            raise error
        self.replaced.append(old)
        return AUTHORITY.issue([x509.DNSName(host)], key, datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC))

    def gaps_h(self) -> list[float]:
        """Between one question and the next."""
        return [(later - before) / HOUR_MS for before, later in pairwise(self.asked_ms)]


@pytest.fixture
def authority(plant: Plant) -> _Advising:
    return _Advising(plant)


@pytest.fixture
def certificates(plant: Plant, authority: _Advising) -> Certificates:
    return started(plant, authority)


def started(plant: Plant, authority: _Advising) -> Certificates:
    """As after a start of the process."""
    return Certificates(
        plant.database, plant.box, authority, hostname=HOST, next_key_ms=1000, clock=plant.clock, time_scale=1
    )


async def view_of(certificates: Certificates) -> CertificateView:
    (view,) = await certificates.every(OWNER)
    return view


async def renewal_ms(certificates: Certificates) -> int:
    return parse_rfc3339((await view_of(certificates)).next_try)


async def go_on(plant: Plant, certificates: Certificates, hours: float, step_s: float = HOUR_S / 4) -> int:
    """Time passes, and all that is due is done; how many certificates were made or tried."""
    count = 0
    for _ in range(round(hours * HOUR_S / step_s)):
        plant.clock.skip(step_s)
        count += await certificates.run_due()
    return count


async def test_a_window_that_is_over_renews_now(plant: Plant, certificates: Certificates, authority: _Advising) -> None:
    assert await certificates.run_due() == 1
    assert await go_on(plant, certificates, 48) == 0
    (first, _) = (await certificates.pairs())[HOST]
    now_ms = plant.clock.now_ms()
    authority.says = Suggestion(Window(now_ms - DAY_MS, now_ms - HOUR_MS, PAGE))
    assert await go_on(plant, certificates, ROUND_S / HOUR_S) == 1
    (second, _) = (await certificates.pairs())[HOST]
    assert second != first
    assert authority.replaced == ["", first], "it is told what the new one replaces"


async def test_one_that_is_young_is_replaced_when_it_is_a_day_old(
    plant: Plant, certificates: Certificates, authority: _Advising
) -> None:
    authority.says = Suggestion(Window(NOW_MS - DAY_MS, NOW_MS - HOUR_MS))
    assert await certificates.run_due() == 1
    assert await certificates.run_due() == 0
    view = await view_of(certificates)
    assert (view.suggested, view.problem, parse_rfc3339(view.next_try)) == (True, "", NOW_MS + DAY_MS)
    assert await go_on(plant, certificates, 23.5) == 0
    assert await go_on(plant, certificates, 24 * 9) == 9, "whatever it says of each new one: once a day"


async def test_a_window_before_our_margin_is_kept_to(
    plant: Plant, certificates: Certificates, authority: _Advising
) -> None:
    await certificates.run_due()
    assert await renewal_ms(certificates) == OWN_MS
    window = Window(NOW_MS + 20 * DAY_MS, NOW_MS + 22 * DAY_MS)
    authority.says = Suggestion(window)
    await certificates.run_due()
    at_ms = await renewal_ms(certificates)
    assert window.start_ms <= at_ms <= window.end_ms
    assert (await view_of(certificates)).suggested
    await go_on(plant, certificates, 72, HOUR_S)
    assert len(authority.asked_ms) > 3
    assert await renewal_ms(certificates) == at_ms, "chosen once"
    authority.says = Suggestion(problem="away")
    await go_on(plant, certificates, 24, HOUR_S)
    assert await renewal_ms(certificates) == at_ms
    authority.says = Suggestion(Window(OWN_MS, OWN_MS + 30 * DAY_MS))
    await go_on(plant, certificates, 24, HOUR_S)
    assert await renewal_ms(certificates) == OWN_MS
    assert not (await view_of(certificates)).suggested


@pytest.mark.parametrize(
    "says",
    [
        Suggestion(),
        Suggestion(problem="it answers 503"),
        Suggestion(Window(OWN_MS + DAY_MS, OWN_MS + 2 * DAY_MS)),
        Suggestion(Window(OWN_MS + 900 * DAY_MS, OWN_MS + 901 * DAY_MS), 0),
    ],
)
async def test_otherwise_our_own_margin_holds(
    plant: Plant, certificates: Certificates, authority: _Advising, says: Suggestion
) -> None:
    authority.says = says
    await certificates.run_due()
    await go_on(plant, certificates, 48, HOUR_S)
    assert len(authority.asked_ms) > 3
    view = await view_of(certificates)
    assert (await renewal_ms(certificates), view.suggested, view.problem) == (OWN_MS, False, "")
    plant.clock.skip((OWN_MS - plant.clock.now_ms()) / 1000)
    assert await certificates.run_due() == 1


@pytest.mark.parametrize(
    ("again_s", "least_h"), [(None, 6), (5, 1), (7 * HOUR_S, 7), (20 * HOUR_S, 20), (90 * HOUR_S, 24)]
)
async def test_it_is_not_asked_again_too_soon(
    plant: Plant, certificates: Certificates, authority: _Advising, again_s: float | None, least_h: int
) -> None:
    authority.says = Suggestion(again_s=again_s)
    await certificates.run_due()
    await certificates.run_due()
    assert len(authority.asked_ms) == 1, "about a new one at once"
    await go_on(plant, certificates, 24 * 6)
    gaps_h = authority.gaps_h()
    assert len(gaps_h) >= 4
    assert min(gaps_h) >= least_h
    assert max(gaps_h) <= 32.25
    assert min(gaps_h[1:]) >= 8


async def test_a_restart_asks_about_nothing_at_once(
    plant: Plant, certificates: Certificates, authority: _Advising
) -> None:
    await certificates.run_due()
    authority.asked_ms.clear()
    for _ in range(24 * 5):
        await go_on(plant, started(plant, authority), 1)
    assert len(authority.asked_ms) == 24 * 5 // 8
    assert min(authority.gaps_h()) >= 7.75  # it is looked at four times an hour


async def test_a_restart_does_not_ask_before_the_authority_wants_it(
    plant: Plant, certificates: Certificates, authority: _Advising
) -> None:
    authority.says = Suggestion(again_s=20 * HOUR_S)
    await certificates.run_due()
    await certificates.run_due()
    for _ in range(24 * 5):
        await go_on(plant, started(plant, authority), 1)
    assert len(authority.asked_ms) >= 5
    assert min(authority.gaps_h()) >= 20
    plant.clock.at_ms -= 20 * DAY_MS
    count = len(authority.asked_ms)
    await go_on(plant, started(plant, authority), ROUND_S / HOUR_S)
    assert len(authority.asked_ms) == count + 1, "a clock that was set back makes nobody wait for ever"


async def test_an_authority_that_wants_to_be_left_alone_is_over_restarts(
    plant: Plant, certificates: Certificates, authority: _Advising
) -> None:
    authority.fails, authority.again_s = "too many", 7 * DAY_S
    assert await certificates.run_due() == 1
    assert await go_on(plant, started(plant, authority), 7 * 24 - 1, HOUR_S) == 0
    assert await go_on(plant, started(plant, authority), 1) == 1
    await certificates.renew(OWNER, HOST, new_key=False)
    assert await started(plant, authority).run_due() == 1, "a person does not wait"
    plant.clock.at_ms -= 20 * DAY_MS
    assert await started(plant, authority).run_due() == 1, "a clock that was set back makes nobody wait for ever"
    authority.again_s = 900 * DAY_S
    await certificates.renew(OWNER, HOST, new_key=False)
    await certificates.run_due()
    assert await renewal_ms(certificates) == plant.clock.now_ms() + 8 * DAY_MS


async def test_a_renewal_that_fails_says_what_the_authority_wants(
    plant: Plant, certificates: Certificates, authority: _Advising
) -> None:
    await certificates.run_due()
    await go_on(plant, certificates, 48)
    now_ms = plant.clock.now_ms()
    authority.says, authority.fails = Suggestion(Window(now_ms - DAY_MS, now_ms - HOUR_MS, PAGE)), "no room"
    assert await go_on(plant, certificates, 8.25) >= 1
    view = await view_of(certificates)
    assert (view.problem, view.suggested, view.state) == (f"no room; {WISH}", False, "ok")
    tries = await go_on(plant, certificates, 48, HOUR_S / 12)
    assert 1 <= tries <= 10, "later and later, whatever is wanted"
    authority.fails = ""
    await certificates.renew(OWNER, HOST, new_key=False)
    assert await certificates.run_due() == 1
    assert (await view_of(certificates)).problem == ""


async def test_a_person_goes_before(plant: Plant, certificates: Certificates, authority: _Advising) -> None:
    await certificates.run_due()
    authority.says = Suggestion(Window(NOW_MS + 20 * DAY_MS, NOW_MS + 22 * DAY_MS))

    async def renewed() -> None:
        await certificates.renew(OWNER, HOST, new_key=False)

    authority.meanwhile = renewed
    await certificates.run_due()
    assert await certificates.run_due() == 1, "what was asked for while the authority was thinking"


async def test_no_question_is_asked_about_what_a_person_gave_or_what_has_ended(
    plant: Plant, certificates: Certificates, authority: _Advising
) -> None:
    key = new_key()
    chain = AUTHORITY.issue([x509.DNSName(HOST)], key, datetime.fromtimestamp(NOW_MS / 1000, UTC))
    await certificates.take(OWNER, chain, key.decode())
    await go_on(plant, certificates, 24)
    assert authority.asked_ms == []
    await certificates.forget(OWNER, HOST)
    await certificates.run_due()
    authority.fails = "no room"
    plant.clock.skip(120 * DAY_S)
    await go_on(plant, certificates, 24)
    assert (await view_of(certificates)).state == "expired"
    assert authority.asked_ms == []
