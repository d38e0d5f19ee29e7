"""How long an MTA-STS policy is kept, and what happens when it changes or cannot be had: over real DNS and HTTPS on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

from mailfleet.engine.sts import FAILED_AGAIN_S, StsPolicies
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.policy_fetch import PolicyFetcher, PolicyFetchError
from mailfleet.net.resolver import Resolver
from mailfleet.net.tls_client import verified_context
from tests.behaviours.network import Network
from tests.behaviours.peer import certified
from tests.engine.plant import Plant
from tests.ports import free_port

HOUR_S = 3600
AUTHORITY = trustme.CA()


def policy(mode: str, max_age_s: int = 10 * HOUR_S) -> str:
    return f"version: STSv1\nmode: {mode}\nmx: mx.s.test\nmax_age: {max_age_s}\n"


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as started:
        yield started


class World:
    def __init__(self, network: Network, plant: Plant, folder: str, *, trusted: bool = True) -> None:
        self.network, self.plant, port = network, plant, free_port("127.0.0.1")
        self.answers: dict[str, tuple[int, str]] = {}
        web = network.web(port, self.answers, certified(AUTHORITY, "mta-sts.s.test"))
        network.publish("mta-sts.s.test", "A", web)
        authority = f"{folder}/authority.pem"
        (AUTHORITY if trusted else trustme.CA()).cert_pem.write_to_path(authority)
        servers = [f"127.0.0.1:{network.zone.port}"]
        resolver = Resolver(servers, 10, plant.clock)
        self.fetcher = PolicyFetcher(resolver, verified_context(authority), port=port, ipv6=False, loopback_only=True)
        self.policies = StsPolicies(plant.database, DnsQuerier(servers, 10, plant.clock), self.fetcher, plant.clock)

    def serve(self, number: str, text: str, status: int = 200) -> None:
        """Another policy from now on."""
        self.network.withdraw("_mta-sts.s.test")
        self.network.publish("_mta-sts.s.test", "TXT", f"v=STSv1; id={number};")
        self.answers["mta-sts.s.test"] = (status, text)
        self.plant.clock.skip(HOUR_S)  # what was asked of the DNS is old

    async def mode(self) -> str | None:
        found = await self.policies.of("s.test")
        return None if found is None else found.mode


async def test_a_policy_holds_until_its_age_or_another_id(network: Network, plant: Plant, tmp_path: object) -> None:
    world = World(network, plant, str(tmp_path))
    assert await world.mode() is None
    world.serve("1", policy("enforce"))
    assert await world.mode() == "enforce"
    world.answers.clear()
    plant.clock.skip(2 * HOUR_S)
    assert await world.mode() == "enforce", "kept, nothing is fetched for the same id"
    world.serve("2", policy("testing"))
    assert await world.mode() == "testing", "another id"
    world.serve("3", "", status=500)
    assert await world.mode() == "testing", "what cannot be fetched takes nothing away"
    network.withdraw("_mta-sts.s.test")
    plant.clock.skip(HOUR_S)
    assert await world.mode() == "testing", "nor does a record that is gone"
    plant.clock.skip(10 * HOUR_S)
    assert await world.mode() is None, "its age is reached"


async def test_what_failed_is_not_asked_for_again_at_once(network: Network, plant: Plant, tmp_path: object) -> None:
    world = World(network, plant, str(tmp_path))
    world.serve("1", "", status=503)
    assert await world.mode() is None
    world.answers["mta-sts.s.test"] = (200, policy("enforce"))
    assert await world.mode() is None
    plant.clock.skip(FAILED_AGAIN_S + 1)
    assert await world.mode() == "enforce"


@pytest.mark.parametrize(
    ("status", "text", "says"),
    [(301, "", "answers 301"), (404, "", "answers 404"), (200, "x" * 70_000, "larger than 65536 bytes")],
)
async def test_what_is_no_policy_is_refused(
    network: Network, plant: Plant, tmp_path: object, status: int, text: str, says: str
) -> None:
    world = World(network, plant, str(tmp_path))
    world.answers["mta-sts.s.test"] = (status, text)
    with pytest.raises(PolicyFetchError, match=says):
        await world.fetcher.fetch("s.test")
    with pytest.raises(PolicyFetchError, match=r"mta-sts\.elsewhere\.test has no address"):
        await world.fetcher.fetch("elsewhere.test")


async def test_a_policy_from_an_impostor_is_none(network: Network, plant: Plant, tmp_path: object) -> None:
    world = World(network, plant, str(tmp_path), trusted=False)
    world.serve("1", policy("none"))
    with pytest.raises(PolicyFetchError, match="certificate"):
        await world.fetcher.fetch("s.test")
    assert await world.mode() is None
