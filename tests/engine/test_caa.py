"""Which CAA records speak for the hosts of a domain, on a real Knot: its own, or the closest above; and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailfleet.engine.dns_plans import PlanWriter
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domain_views import CheckView
from mailfleet.engine.domains import Domains
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.policy_fetch import PolicyFetcher
from mailfleet.net.resolver import Resolver
from mailfleet.net.tls_client import verified_context
from mailfleet.policy.caa import Issuer
from mailfleet.store import certificates, sending
from mailfleet.store.database import Tx
from tests.engine.plant import OWNER, Plant
from tests.peers.knot import Knot

NEWS = "news.shop.test"
MAIN = "127.0.88.1"
CA = Issuer("ca.test", "https://ca.test/directory", methods=("http-01",))
OURS, OTHER = 'CAA 0 issue "ca.test"', 'CAA 0 issue "other.test"'


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    made = Knot(tmp_path / "knot", {"test": [], "shop.test": [], "host.test": []}, addresses=(MAIN,))
    yield made
    made.close()


class Case(NamedTuple):
    """Lines of the zones; then what is said."""

    shop: list[str]
    host: list[str]
    state: str
    found: str
    step: str = ""


ALIAS = "mta-sts.news CNAME mail.host.test."
CASES = [
    Case([], [], "ok", "nothing"),
    Case(
        [f"@ {OTHER}"], [], "failed", 'shop.test: 0 issue "other.test"', 'add shop.test CAA 0 issue "ca.test", beside'
    ),
    Case(['@ CAA 0 issue ";"'], [], "failed", 'shop.test: 0 issue ";"', 'add shop.test CAA 0 issue "ca.test", beside'),
    Case([f"@ {OURS}", f"@ {OTHER}"], [], "ok", "shop.test: "),
    Case(['@ CAA 0 issuewild "other.test"'], [], "ok", "shop.test: "),
    Case([f"@ {OTHER}", f"news {OURS}"], [], "ok", f"{NEWS}: "),
    Case([f"@ {OURS}", f"news {OTHER}"], [], "failed", f"{NEWS}: ", f'add {NEWS} CAA 0 issue "ca.test", beside'),
    Case([f"@ {OTHER}", ALIAS], [f"mail {OURS}"], "ok", "mail.host.test: "),
    Case([f"@ {OURS}", ALIAS], [f"mail {OTHER}"], "failed", "mail.host.test: ", "add mail.host.test CAA"),
    Case([f"@ {OURS}", ALIAS], ["mail A 127.0.0.1", f"@ {OTHER}"], "ok", "shop.test: "),
    Case(['@ CAA 0 issue "ca.test; accounturi=https://ca.test/acct/7"'], [], "ok", "shop.test: "),
    Case(
        ['@ CAA 0 issue "ca.test; accounturi=https://ca.test/acct/8"'],
        [],
        "failed",
        "shop.test: ",
        'or add shop.test CAA 0 issue "ca.test; accounturi=https://ca.test/acct/7" beside it',
    ),
    Case(["mta-sts.news CNAME web", f"web {OTHER}"], [], "failed", "web.shop.test: ", "add web.shop.test CAA"),
]


async def looking(plant: Plant, knot: Knot) -> Domains:
    def shows(tx: Tx) -> None:
        domain = sending.by_name(tx, NEWS)
        assert domain is not None
        sending.update(tx, domain._replace(mta_sts="testing", mta_sts_mx="mx.shop.test"))
        certificates.put_account(tx, certificates.Account(CA.directory, "https://ca.test/acct/7", b"", 0))

    await plant.add_domain(NEWS)
    await plant.database.write(shows)
    dns = Authoritative(DnsQuerier([knot.address], 10, plant.clock), timeout_s=10, port=knot.port, loopback_only=True)
    fetcher = PolicyFetcher(
        Resolver([knot.address], 10, plant.clock), verified_context(""), port=9, ipv6=False, loopback_only=True
    )
    publisher: Any = None  # nothing is published
    defaults = SourceDefaults("mail.host.test", private=True)
    return Domains(
        plant.database, DomainChecker(dns, None, fetcher, defaults=defaults), publisher, PlanWriter(dns, {}, 1), plant.dmarc,
        defaults=defaults, clock=plant.clock, ids=plant.ids, time_scale=1, authority=CA,
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_the_closest_records_speak_for_a_host(plant: Plant, knot: Knot) -> None:
    domains = await looking(plant, knot)

    async def look() -> CheckView:
        plant.clock.skip(4000)  # past what resolvers remember
        return next(one for one in (await domains.check(OWNER, NEWS)).checks if one.name == "caa")

    for case in CASES:
        knot.replace("shop.test", case.shop)
        knot.replace("host.test", case.host)
        one = await look()
        right = (one.state, case.found in one.found, case.step in one.next_step)
        assert right == (case.state, True, True), f"{case}\n{one}"
    assert "ours (ca.test) will refuse" in one.meaning
    assert "other.test make certificates for mta-sts.news.shop.test" in one.meaning
    knot.replace("shop.test", [])
    knot.replace("test", [f"@ {OTHER}", f"shop NS ns.shop.test.\nns.shop A {MAIN}"])
    one = await look()
    assert (one.state, one.next_step) == ("failed", f'add {NEWS} CAA 0 issue "ca.test"'), "a registry takes no record"
