"""What can be set of a sending domain, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from mailfleet.base.errors import InputError, NotFoundError
from mailfleet.engine.domain_options import DomainOptions
from mailfleet.engine.domain_views import DomainSettings
from mailfleet.engine.requests import Actor
from mailfleet.store import sending
from mailfleet.store.sending import SendingDomain
from tests.engine.plant import DOMAIN, HOST, OWNER, Plant
from tests.mail.test_bimi import logo


@pytest.fixture
def mail_hosts() -> list[str]:
    """MX records of every domain."""
    return ["MX1.office.test.", "mx2.office.test"]


@pytest.fixture
def options(plant: Plant, mail_hosts: list[str]) -> DomainOptions:
    async def look_up(domain: str) -> tuple[list[str], str]:
        return mail_hosts, f"{domain} has none"

    return DomainOptions(plant.database, look_up, HOST)


async def set_to(options: DomainOptions, **values: Any) -> DomainSettings:
    return await options.set(OWNER, DOMAIN, DomainSettings(**values))


async def kept(plant: Plant) -> SendingDomain:
    found = await plant.database.read(lambda tx: sending.by_name(tx, DOMAIN))
    assert found is not None
    return found


async def test_what_is_set_is_got(options: DomainOptions) -> None:
    assert await options.get(OWNER, DOMAIN) == DomainSettings()
    wanted = DomainSettings(
        dmarc_policy="quarantine",
        dmarc_reports_to="dmarc@shop.example",
        rotate_days=90,
        mta_sts="testing",
        mta_sts_mx=["mx.shop.example", "*.office.test"],
        tls_reports_to="https://reports.test/v1?for=shop",
        public_host="assets.shop.example",
        bimi_evidence="https://ca.test/shop.pem",
    )
    assert await options.set(OWNER, f" {DOMAIN.upper()}. ".strip(), wanted) == wanted
    assert await options.get(OWNER, DOMAIN) == wanted


async def test_texts_are_kept_as_machines_want_them(options: DomainOptions) -> None:
    now = await set_to(
        options,
        dmarc_reports_to=" dmarc@Bücher.example",
        tls_reports_to="tls@SHOP.example",
        public_host="Bücher.shop.example.",
        mta_sts="enforce",
        mta_sts_mx=["MX.Shop.Example."],
    )
    assert now.dmarc_reports_to == "dmarc@xn--bcher-kva.example"
    assert now.tls_reports_to == "tls@shop.example"
    assert now.public_host == "xn--bcher-kva.shop.example"
    assert now.mta_sts_mx == ["mx.shop.example"]


@pytest.mark.parametrize(
    ("values", "where", "what"),
    [
        ({"mta_sts": "on"}, "mta_sts", "'on' is no mode"),
        ({"mta_sts": "none"}, "mta_sts", "'none' is no mode"),
        *(({"mta_sts": mode, "mta_sts_mx": [host]}, "mta_sts_mx", "is no host name")
          for mode in ("testing", "enforce", "off") for host in ("two words", "mx.*.test", "", "mx;test")),
        ({"dmarc_policy": "p"}, "dmarc_policy", "'p' is no policy"),
        *(({"dmarc_reports_to": to}, "dmarc_reports_to", "") for to in ("nobody", "a@b", "https://reports.test/")),
        *(({"tls_reports_to": to}, "tls_reports_to", "") for to in (
            "nobody", "http://reports.test/", "https://", "https://[", "https://reports.test/a;b", "https://reports.test/a,b",
            "https://reports.test/\n", "https://reports.test/a b", "https://reports.test/ü", 'https://reports.test/"',
        )),
        *(({"bimi_evidence": at}, "bimi_evidence", "no address of a mark certificate") for at in (
            "ca.test/vmc.pem", "http://ca.test/vmc.pem", "https://[::1/vmc.pem", "https://ca.test/\tvmc.pem",
        )),
        *(({"public_host": host}, "public_host", "is no free host of shop.example") for host in (
            "shop.example", "assets.other.example", "assetsshop.example", "mta-sts.shop.example", "mta-sts.a.shop.example",
            HOST, "bounce.shop.example", "_dmarc.shop.example", "*.shop.example", ".shop.example", "a..shop.example",
            "[127.0.0.1]", "two words.shop.example",
        )),
    ],
)  # fmt: skip
async def test_what_cannot_be(options: DomainOptions, values: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        await set_to(options, **values)
    assert caught.value.where == where
    assert what in caught.value.what
    assert caught.value.mend
    assert await options.get(OWNER, DOMAIN) == DomainSettings()


async def test_hosts_of_the_policy_are_those_of_the_dns(options: DomainOptions, mail_hosts: list[str]) -> None:
    found = await set_to(options, mta_sts="testing")
    assert found.mta_sts_mx == ["mx1.office.test", "mx2.office.test"]
    mail_hosts.clear()
    with pytest.raises(InputError, match=r"no mail host of shop\.example is known: shop\.example has none"):
        await set_to(options, mta_sts="testing")


async def test_a_policy_is_taken_back_in_the_open(plant: Plant, options: DomainOptions) -> None:
    assert (await set_to(options, mta_sts="off")).mta_sts == "off"
    assert (await kept(plant)).mta_sts == ""
    await set_to(options, mta_sts="enforce")
    assert (await set_to(options, mta_sts="off")).mta_sts == "off"
    assert ((await kept(plant)).mta_sts, (await kept(plant)).mta_sts_mx) == ("none", "")


async def test_what_lies_in_another_sending_domain_is_that_ones(plant: Plant, options: DomainOptions) -> None:
    await plant.add_domain("eu.shop.example", tenant_id=2)
    for host in ("eu.shop.example", "assets.eu.shop.example"):
        with pytest.raises(InputError, match="is no free host"):
            await set_to(options, public_host=host)
    assert (await set_to(options, public_host="neu.shop.example")).public_host == "neu.shop.example"


async def test_a_logo_needs_a_host_and_keeps_it(plant: Plant, options: DomainOptions) -> None:
    with pytest.raises(InputError, match="there is no host") as caught:
        await options.set_logo(OWNER, DOMAIN, logo())
    assert "--public-host assets.shop.example" in caught.value.mend
    await set_to(options, public_host="assets.shop.example")
    await options.set_logo(OWNER, DOMAIN, logo())
    first = (await kept(plant)).bimi_logo
    await options.set_logo(OWNER, DOMAIN, logo("<path d='M0 0'/>"))
    assert first != (await kept(plant)).bimi_logo != ""
    for broken in (b"", b"<svg/>"):
        with pytest.raises(InputError):
            await options.set_logo(OWNER, DOMAIN, broken)
    assert (await kept(plant)).bimi_logo
    with pytest.raises(InputError, match="the logo is shown under this host"):
        await set_to(options)
    await options.set_logo(OWNER, DOMAIN, None)
    assert (await kept(plant)).bimi_logo == ""
    assert (await set_to(options)).public_host == ""


async def test_what_a_person_has_not_touched_stays_as_it_has_become(options: DomainOptions) -> None:
    seen = await set_to(
        options, dmarc_policy="reject", dmarc_rollout="auto", mta_sts="testing", mta_sts_mx=["mx.a.test"]
    )
    now = seen.model_copy(update={"dmarc_policy": "quarantine", "mta_sts_mx": ["mx.b.test"]})
    await options.set(OWNER, DOMAIN, now)  # since reports show that mail is lost
    wanted = seen.model_copy(update={"rotate_days": 90, "tls_reports_to": "tls@shop.example"})
    after = await options.set(OWNER, DOMAIN, wanted, was=seen)
    assert after == now.model_copy(update={"rotate_days": 90, "tls_reports_to": "tls@shop.example"})
    after = await options.set(OWNER, DOMAIN, wanted.model_copy(update={"mta_sts": "enforce"}), was=seen)
    assert (after.mta_sts, after.mta_sts_mx) == ("enforce", ["mx.a.test"]), "these go together"
    after = await options.set(OWNER, DOMAIN, wanted.model_copy(update={"dmarc_policy": "none"}), was=seen)
    assert after.dmarc_policy == "none"


async def test_another_tenants_domain_is_none(options: DomainOptions) -> None:
    other = Actor(2)  # type: ignore[arg-type]  # ids are new types over int
    for asked in (
        options.get(other, DOMAIN),
        options.set(other, DOMAIN, DomainSettings()),
        options.set_logo(other, DOMAIN, None),
        options.get(OWNER, "strange.example"),
    ):
        with pytest.raises(NotFoundError):
            await asked
