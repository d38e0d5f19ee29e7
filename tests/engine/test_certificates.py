"""Certificates that people give: who may, what is refused, and when listeners notice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509

from mailfleet.base.clock import rfc3339
from mailfleet.base.errors import ConflictError, InputError, NotFoundError
from mailfleet.base.ids import TenantId
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.issuing import IssueError, NotYetError
from mailfleet.engine.key_records import Named
from mailfleet.engine.requests import Actor
from mailfleet.net.tls_keys import key_digest, new_key
from mailfleet.policy.renewal_info import Suggestion
from tests.engine.plant import DOMAIN, HOST, NOW_MS, OWNER, Plant
from tests.net.handshakes import AUTHORITY

TENANT = Actor(TenantId(2))
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
DAY_S = 86_400


def certificates_of(plant: Plant, box: SecretBox | None = None) -> Certificates:
    return Certificates(
        plant.database, box or plant.box, None, hostname=HOST, next_key_ms=1000, clock=plant.clock, time_scale=1
    )


@pytest.fixture
def certificates(plant: Plant) -> Certificates:
    """Of a server that asks no authority."""
    return certificates_of(plant)


def made(*names: str) -> tuple[str, str]:
    key = new_key()
    return AUTHORITY.issue([x509.DNSName(one) for one in names], key, NOW), key.decode()


async def test_what_is_given_is_shown_for_every_host_that_it_names(certificates: Certificates) -> None:
    chain, key = made(HOST, "*.shop.example")
    views = await certificates.take(OWNER, chain, key)
    assert [(one.host, one.issuer, one.state) for one in views] == [
        (HOST, "own", "ok"),
        ("*.shop.example", "own", "ok"),
    ]
    pair = (chain, key.encode())
    assert await certificates.pairs() == {HOST: pair, "*.shop.example": pair}
    assert {one.host for one in await certificates.every(OWNER)} == {HOST, "*.shop.example"}


async def test_giving_it_twice_is_giving_it_once(certificates: Certificates) -> None:
    chain, key = made(HOST)
    assert await certificates.take(OWNER, chain, key) == await certificates.take(OWNER, chain, key)
    assert len(await certificates.every(OWNER)) == 1


async def test_what_has_ended_is_refused(plant: Plant, certificates: Certificates) -> None:
    chain, key = made(HOST)
    plant.clock.skip(90 * DAY_S)
    with pytest.raises(InputError, match="the certificate ended at 2026-04-01"):
        await certificates.take(OWNER, chain, key)
    assert await certificates.pairs() == {}


async def test_keys_are_kept_sealed(plant: Plant, certificates: Certificates) -> None:
    chain, key = made(HOST)
    await certificates.take(OWNER, chain, key)
    ((sealed,),) = await plant.rows("SELECT sealed_key FROM certificate")
    assert key.splitlines()[1].encode() not in sealed
    assert await certificates_of(plant, SecretBox(bytes(32))).pairs() == {}  # with another master.key


async def test_one_key_that_does_not_open_takes_no_other_away(plant: Plant, certificates: Certificates) -> None:
    for host in (HOST, "other.example"):
        await certificates.take(OWNER, *made(host))
    await plant.database.write(lambda tx: tx.run("UPDATE certificate SET sealed_key = ? WHERE host = ?", (b"x", HOST)))
    assert list(await certificates.pairs()) == ["other.example"]


async def test_listeners_notice_whatever_the_clock_does(plant: Plant, certificates: Certificates) -> None:
    seen = [await certificates.version()]

    async def changed() -> bool:
        seen.append(await certificates.version())
        return seen[-1] not in seen[:-1]

    await certificates.take(OWNER, *made(HOST))
    assert await changed()
    plant.clock.at_ms -= 3_600_000
    await certificates.take(OWNER, *made(HOST))
    assert await changed()
    await certificates.take(OWNER, *made("a.example"))
    assert await changed()
    plant.clock.at_ms += 1
    await certificates.take(OWNER, *made("a.example"))
    assert await changed()
    await certificates.forget(OWNER, HOST)
    assert await changed()


async def test_what_is_forgotten_is_shown_no_more(certificates: Certificates) -> None:
    await certificates.take(OWNER, *made(HOST))
    await certificates.forget(OWNER, f" {HOST.upper()}.")
    assert await certificates.pairs() == {}
    with pytest.raises(NotFoundError):
        await certificates.forget(OWNER, HOST)


async def test_what_a_person_gave_is_not_renewed(certificates: Certificates) -> None:
    with pytest.raises(NotFoundError):
        await certificates.renew(OWNER, HOST, new_key=False)
    await certificates.take(OWNER, *made(HOST))
    with pytest.raises(ConflictError, match="given by a person"):
        await certificates.renew(OWNER, HOST, new_key=True)
    assert await certificates.run_due() == 0


@pytest.mark.parametrize(
    "host", [HOST, "*.shop.example", "shop.example", "a.theirs.shop.example.evil", "theirs2.shop.example", "example"]
)
async def test_a_tenant_touches_its_own_hosts_only(plant: Plant, certificates: Certificates, host: str) -> None:
    await plant.add_domain("theirs.shop.example", tenant_id=2)
    await certificates.take(OWNER, *made(host))
    before = await certificates.pairs()
    assert await certificates.every(TENANT) == []
    with pytest.raises(NotFoundError):
        await certificates.take(TENANT, *made("a.theirs.shop.example", host))
    with pytest.raises(NotFoundError):
        await certificates.forget(TENANT, host)
    with pytest.raises(NotFoundError):
        await certificates.renew(TENANT, host, new_key=False)
    assert await certificates.pairs() == before
    await certificates.take(TENANT, *made("theirs.shop.example", "*.theirs.shop.example", "a.theirs.shop.example"))
    assert len(await certificates.every(TENANT)) == 3


async def test_a_domain_above_gives_no_right_to_the_server_or_to_a_domain_below(
    plant: Plant, certificates: Certificates
) -> None:
    await plant.add_domain("example", tenant_id=2)
    assert DOMAIN.endswith(".example")
    for host in (HOST, "*.shop.example", "mta-sts.shop.example", "shop.example"):
        with pytest.raises(NotFoundError):
            await certificates.take(TENANT, *made(host))
    await certificates.take(TENANT, *made("other.example", "*.example"))


class Made:
    """An authority that makes whatever is asked for."""

    name = "acme"

    async def suggested(self, chain: str) -> Suggestion:
        return Suggestion()

    async def tidy(self) -> None:
        pass

    async def issue(self, host: str, key: bytes, old: str = "") -> str:
        return AUTHORITY.issue([x509.DNSName(host)], key, NOW)


async def test_a_next_key_waits_until_the_dns_has_long_named_it(plant: Plant) -> None:
    says: list[Named] = ["another"]

    async def named(host: str, digest: str) -> Named:
        return says[0]

    certificates = Certificates(
        plant.database, plant.box, Made(), hostname=HOST, next_key_ms=60_000, clock=plant.clock, time_scale=1,
        named=named,
    )  # fmt: skip
    assert await certificates.run_due() == 1
    first = (await certificates.keys_of(HOST)).shown
    view = await certificates.renew(OWNER, HOST, new_key=True)
    assert (view.next_key, view.next_key_from) == (True, "")
    coming = (await certificates.keys_of(HOST)).next
    assert view.tlsa == [f"3 1 1 {first}", f"3 1 1 {coming}"]
    await certificates.renew(OWNER, HOST, new_key=True)
    assert (await certificates.keys_of(HOST)).next == coming, "one at a time: the DNS may name it already"

    async def later(answer: Named, skip_s: float = 61) -> bool:
        """Whether the next key is shown after so long."""
        says[0] = answer
        plant.clock.skip(skip_s)
        await certificates.run_due()
        return (await certificates.keys_of(HOST)).shown == coming

    assert not await later("another", DAY_S)
    assert not await later("this"), "seen for the first time"
    assert not await later("unknown"), "and lost again"
    assert not await later("this")
    assert not await later("this", 31)
    assert not await later("another", 31)
    assert not await later("this")
    await certificates.renew(OWNER, HOST, new_key=False)
    assert await certificates.run_due() == 1, "the key in use is renewed meanwhile"
    assert (await certificates.keys_of(HOST))[1:3] == (first, coming)
    assert await later("this")
    assert (await certificates.keys_of(HOST)).next == ""


@pytest.mark.parametrize("known", [False, True], ids=["first", "renewed"])
@pytest.mark.parametrize("error", [IssueError, NotYetError])
async def test_who_asks_while_an_order_fails_is_heard(plant: Plant, known: bool, error: type[IssueError]) -> None:
    class Failing(Made):
        fails = False

        async def issue(self, host: str, key: bytes, old: str = "") -> str:
            if not self.fails:
                return await super().issue(host, key, old)
            self.fails = False
            plant.clock.skip(1)  # long enough for somebody to mend what is wrong
            await ours.renew(OWNER, HOST, new_key=False)
            raise error("the zone is written to by nobody")

    issuer = Failing()
    ours = Certificates(
        plant.database, plant.box, issuer, hostname=HOST, next_key_ms=60_000, clock=plant.clock, time_scale=1
    )
    if known:
        assert await ours.run_due() == 1
        await ours.renew(OWNER, HOST, new_key=False)
        plant.clock.skip(1)
    issuer.fails = True
    assert await ours.run_due() == 1
    (view,) = await ours.every(OWNER)
    assert (view.problem, view.next_try) == ("the zone is written to by nobody", rfc3339(plant.clock.now_ms()))
    assert await ours.run_due() == 1, "at the next look, not minutes later"
    (view,) = await ours.every(OWNER)
    assert (view.problem, view.state) == ("", "ok")


@pytest.mark.parametrize("fails", [False, True], ids=["made", "failed"])
async def test_what_is_forgotten_during_its_order_does_not_come_back(plant: Plant, fails: bool) -> None:
    class Slow(Made):
        ours: Certificates | None = None

        async def issue(self, host: str, key: bytes, old: str = "") -> str:
            if self.ours is not None:
                ours, self.ours = self.ours, None
                await ours.forget(OWNER, HOST)  # whoever has lost the key, say
                if fails:
                    raise IssueError("the authority does not answer")
            return await super().issue(host, key, old)

    issuer = Slow()
    ours = Certificates(
        plant.database, plant.box, issuer, hostname=HOST, next_key_ms=60_000, clock=plant.clock, time_scale=1
    )
    assert await ours.run_due() == 1
    lost = (await ours.keys_of(HOST)).shown
    await ours.renew(OWNER, HOST, new_key=False)
    issuer.ours = ours
    assert await ours.run_due() == 1
    assert await ours.pairs() == {}
    assert await ours.run_due() == 1, "and a new one is made"
    assert (await ours.keys_of(HOST)).shown not in ("", lost)


async def test_no_key_is_shown_that_the_dns_does_not_name(plant: Plant) -> None:
    chain, key = made(HOST)
    says: list[Named] = ["another"]

    async def named(host: str, digest: str) -> Named:
        assert digest == key_digest(key.encode()) or digest == ""
        return says[0]

    certificates = Certificates(
        plant.database, plant.box, None, hostname=HOST, next_key_ms=1000, clock=plant.clock, time_scale=1, named=named
    )
    with pytest.raises(ConflictError, match="the DNS names another key"):
        await certificates.take(OWNER, chain, key)
    says[0] = "this"
    await certificates.take(OWNER, chain, key)
    says[0] = "another"
    with pytest.raises(ConflictError, match="the DNS names another key"):
        await certificates.forget(OWNER, HOST)
    says[0] = "unknown"  # a DNS that is away keeps nobody from anything
    await certificates.take(OWNER, chain, key)
    await certificates.forget(OWNER, HOST)
