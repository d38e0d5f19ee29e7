"""What is shown to everybody, host by host."""

from __future__ import annotations

from typing import Any

import pytest

from mailfleet.engine.sites import SECURITY_TXT, Sites, hosts_of, logo_path, policy_of
from mailfleet.mail.mta_sts import WELL_KNOWN, parse_policy
from mailfleet.store import sending
from mailfleet.store.database import Tx
from mailfleet.store.sending import SendingDomain
from tests.engine.plant import DOMAIN, HOST, Plant

ASSETS, POLICY = f"assets.{DOMAIN}", f"mta-sts.{DOMAIN}"


@pytest.fixture
def sites(plant: Plant) -> Sites:
    return Sites(plant.database, plant.clock, hostname=HOST, security_contact="mailto:security@shop.example")


async def change(plant: Plant, name: str = DOMAIN, logo: str = "", **values: Any) -> SendingDomain:
    def work(tx: Tx) -> SendingDomain:
        found = sending.by_name(tx, name)
        assert found is not None
        changed = found._replace(**values)
        sending.update(tx, changed)
        sending.put_logo(tx, found.id, logo)
        return changed

    return await plant.database.write(work)


async def test_a_domain_that_shows_nothing(plant: Plant, sites: Sites) -> None:
    for host in ("", DOMAIN, ASSETS, POLICY, "mta-sts.", "mta-sts.strange.example", HOST):
        assert not await sites.knows(host)
        assert await sites.find(host, WELL_KNOWN) is None


@pytest.mark.parametrize(
    ("mode", "shown", "max_age_s"),
    [("testing", "testing", 86_400), ("enforce", "enforce", 604_800), ("none", "none", 86_400)],
)
async def test_a_policy(plant: Plant, sites: Sites, mode: str, shown: str, max_age_s: int) -> None:
    domain = await change(plant, mta_sts=mode, mta_sts_mx="mx1.office.test *.office.test")
    assert hosts_of(domain) == [POLICY]
    assert await sites.knows(POLICY)
    found = await sites.find(POLICY, WELL_KNOWN)
    assert found is not None
    assert found.media_type == "text/plain; charset=utf-8"
    policy = parse_policy(found.body.decode())
    assert policy == policy_of(domain)
    assert (policy.mode, policy.mx, policy.max_age_s) == (shown, ("mx1.office.test", "*.office.test"), max_age_s)
    for host, path in ((DOMAIN, WELL_KNOWN), (POLICY, "/"), (POLICY, WELL_KNOWN + "/"), (ASSETS, WELL_KNOWN)):
        assert await sites.find(host, path) is None


async def test_a_logo(plant: Plant, sites: Sites) -> None:
    domain = await change(plant, public_host=ASSETS, bimi_logo="12ab", logo="<svg/>")
    assert hosts_of(domain) == [ASSETS]
    assert logo_path(domain) == "/bimi/12ab.svg"
    found = await sites.find(ASSETS, "/bimi/12ab.svg")
    assert found is not None
    assert (found.media_type, found.body) == ("image/svg+xml", b"<svg/>")
    for host, path in ((ASSETS, "/bimi/34cd.svg"), (ASSETS, "/"), (ASSETS, WELL_KNOWN), (POLICY, "/bimi/12ab.svg")):
        assert await sites.find(host, path) is None
    await change(plant, public_host=ASSETS, bimi_logo="")
    assert await sites.knows(ASSETS)
    assert await sites.find(ASSETS, "/bimi/.svg") is None


async def test_one_domain_never_speaks_for_another(plant: Plant, sites: Sites) -> None:
    await plant.add_domain("eu.shop.example", tenant_id=2)
    await change(plant, mta_sts="testing", mta_sts_mx="mx.ours.test", public_host=ASSETS)
    await change(plant, "eu.shop.example", mta_sts="enforce", mta_sts_mx="mx.theirs.test")
    found = await sites.find("mta-sts.eu.shop.example", WELL_KNOWN)
    assert found is not None
    assert b"mx.theirs.test" in found.body


async def test_whom_finders_of_a_weakness_write_to(plant: Plant, sites: Sites) -> None:
    found = await sites.find(ASSETS, SECURITY_TXT)
    assert found is not None
    lines = found.body.decode().splitlines()
    assert lines[0] == "Contact: mailto:security@shop.example"
    assert lines[1] == "Expires: 2026-06-30T00:00:00Z"  # less than a year (RFC 9116 2.5.5), at midnight
    assert lines[2] == f"Canonical: https://{ASSETS}/.well-known/security.txt"
    plant.clock.skip(86_399)
    assert await sites.find(ASSETS, SECURITY_TXT) == found
    plant.clock.skip(1)
    assert await sites.find(ASSETS, SECURITY_TXT) != found
    nobody = Sites(plant.database, plant.clock, hostname=HOST, security_contact="")
    assert await nobody.find(ASSETS, SECURITY_TXT) is None
