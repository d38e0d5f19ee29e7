"""Reports on TLS leave when a day is over, once, to whoever asks for them: over real DNS and HTTPS on loopback."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from mailfleet.base.gauges import Gauges
from mailfleet.config.metrics import CATALOGUE
from mailfleet.config.tls_reports import TlsReports as Wanted
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.tls_book import TlsBook, counted_domain
from mailfleet.engine.tls_reports import TlsReports
from mailfleet.mail.address import Address
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.https_exchange import HttpsError, HttpsExchange
from mailfleet.net.resolver import Resolver
from mailfleet.net.tls_client import verified_context
from mailfleet.policy.tls_results import Fault, no_policy, sts_policy
from mailfleet.store import sending
from mailfleet.store.tls_results import Due
from tests.behaviours.network import Network
from tests.behaviours.peer import certified
from tests.engine.plant import Plant
from tests.ports import free_port

DAY_S = 86_400
AUTHORITY = trustme.CA()


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as started:
        yield started


class World:
    """A book with results of three domains, and the reporter."""

    def __init__(self, network: Network, plant: Plant, folder: Path, wanted: Wanted | None = None) -> None:
        self.plant, self.answers, self.posted = plant, {"page.test": (503, "later")}, list[tuple[str, bytes]]()
        self.port = free_port("127.0.0.1")
        address = network.web(self.port, self.answers, certified(AUTHORITY, "page.test"), self.posted)
        network.publish("page.test", "A", address)
        AUTHORITY.cert_pem.write_to_path(str(folder / "authority.pem"))
        servers = [f"127.0.0.1:{network.zone.port}"]
        https = HttpsExchange(
            Resolver(servers, 10, plant.clock),
            verified_context(str(folder / "authority.pem")),
            ipv6=False,
            loopback_only=True,
            public_only=True,
        )
        self.reports = TlsReports(
            plant.database,
            DnsQuerier(servers, 10, plant.clock),
            https,
            wanted or Wanted(),
            retry=plant.retry,
            time_scale=1,
            clock=plant.clock,
            ids=plant.ids,
        )
        self.book = TlsBook(plant.database, Gauges(CATALOGUE), plant.clock, 1)
        network.publish("_smtp._tls.mail.test", "TXT", "v=TLSRPTv1; rua=mailto:tls@mail.test")
        network.publish(
            "_smtp._tls.both.test", "TXT", f"v=TLSRPTv1; rua=mailto:tls@both.test,https://page.test:{self.port}/in"
        )

    async def count(self) -> None:
        for domain in ("mail.test", "both.test", "nobody.test"):
            self.book.note(domain, no_policy(domain))
            self.book.note(domain, no_policy(domain))
            self.book.note(domain, sts_policy(domain, None), Fault("sts-policy-fetch-error", "away"))
        await self.book.flush()

    async def states(self) -> dict[str, str]:
        found = await self.plant.rows("SELECT domain, state FROM tls_report ORDER BY domain")
        return {str(domain): str(state) for domain, state in found}

    async def mailed(self) -> list[str]:
        return [str(row[0]) for row in await self.plant.rows("SELECT address FROM delivery ORDER BY address")]


@pytest.fixture
def world(network: Network, plant: Plant, tmp_path: Path) -> World:
    return World(network, plant, tmp_path)


async def test_a_day_is_reported_once_it_is_over(world: World) -> None:
    plant = world.plant
    await world.count()
    await world.reports.run_due()
    assert await world.mailed() == [], "the day is not over"
    plant.clock.skip(DAY_S + 5 * 3600)
    for _ in range(3):
        await world.reports.run_due()
    assert await world.states() == {"both.test": "posting", "mail.test": "sent", "nobody.test": "unasked"}
    assert await world.mailed() == ["tls@both.test", "tls@mail.test"], "each once"
    envelopes = {row[0] for row in await plant.rows("SELECT envelope FROM delivery")}
    assert [Envelope.load(one).tls for one in envelopes] == ["any"]
    assert counted_domain("tls@mail.test", envelopes.pop()) == "", "reports are in no report"
    assert counted_domain("bob@mail.test", None) == "mail.test"

    posts = len(world.posted)
    world.answers["page.test"] = (201, "thanks")
    await world.reports.run_due()
    assert len(world.posted) == posts, "not before its time"
    plant.clock.skip(3601)
    await world.reports.run_due()
    await world.reports.run_due()
    assert (await world.states())["both.test"] == "sent"
    assert len(world.posted) == posts + 1
    head, body = world.posted[-1]
    assert "Content-Type: application/tlsrpt+gzip" in head
    assert body == world.posted[0][1], "the same report again"
    found = json.loads(gzip.decompress(body))
    assert found["contact-info"] == "tls-reports@shop.example"
    summaries = {one["policy"]["policy-type"]: one["summary"] for one in found["policies"]}
    assert summaries["no-policy-found"] == {"total-successful-session-count": 2, "total-failure-session-count": 0}
    assert summaries["sts"] == {"total-successful-session-count": 0, "total-failure-session-count": 1}

    plant.clock.skip(4 * DAY_S)
    await world.reports.run_due()
    assert await world.states() == {}
    assert await plant.rows("SELECT * FROM tls_result") == []


async def test_a_report_that_cannot_be_made_stops_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = world.reports._report

    async def report(due: Due, sender: Address) -> None:
        if due.domain == "mail.test":
            raise RuntimeError("what nobody thought of")
        await real(due, sender)

    monkeypatch.setattr(world.reports, "_report", report)
    await world.count()
    world.plant.clock.skip(DAY_S + 5 * 3600)
    with pytest.raises(RuntimeError):
        await world.reports.run_due()
    assert await world.states() == {"both.test": "posting", "mail.test": "waiting", "nobody.test": "unasked"}


async def test_nothing_is_posted_into_a_private_network(network: Network, plant: Plant) -> None:
    network.publish("inside.test", "A", "10.0.0.1")
    resolver = Resolver([f"127.0.0.1:{network.zone.port}"], 10, plant.clock)
    https = HttpsExchange(resolver, verified_context(), ipv6=False, public_only=True)
    with pytest.raises(HttpsError, match=r"10\.0\.0\.1 is no public address"):
        await https.ask("POST", "inside.test", 443, "/", "", b"report", max_bytes=1)


async def test_a_page_that_never_takes_it_is_given_up(world: World) -> None:
    await world.count()
    world.plant.clock.skip(DAY_S + 5 * 3600)
    for _ in range(30):
        await world.reports.run_due()
        world.plant.clock.skip(3601)
    assert (await world.states())["both.test"] == "failed"
    assert 10 < len(world.posted) < 30
    assert await world.mailed() == ["tls@both.test", "tls@mail.test"]


@pytest.mark.parametrize(
    ("wanted", "mailed"),
    [
        (Wanted(enabled=False), 0),
        (Wanted(sender="postmaster@elsewhere.example"), 0),
        (Wanted(sender="postmaster@shop.example"), 2),
    ],
)
async def test_who_reports(network: Network, plant: Plant, tmp_path: Path, wanted: Wanted, mailed: int) -> None:
    world = World(network, plant, tmp_path, wanted)
    await world.count()
    plant.clock.skip(DAY_S + 5 * 3600)
    await world.reports.run_due()
    assert len(await world.mailed()) == mailed


async def test_without_a_sending_domain_nothing_is_reported_until_there_is_one(world: World) -> None:
    plant = world.plant
    (domain_id,) = (await plant.rows("SELECT id FROM sending_domain"))[0]
    await plant.database.write(lambda tx: sending.remove(tx, domain_id))
    await world.count()
    plant.clock.skip(DAY_S + 5 * 3600)
    await world.reports.run_due()
    assert await world.mailed() == []
    await plant.add_domain("new.example")
    await world.reports.run_due()
    assert len(await world.mailed()) == 2
