"""Management: domains and their records, keys sealed at rest, logins, tokens that cannot give more than they have, suppressions."""

from __future__ import annotations

import pytest

from mailfleet.base.errors import ConfigError, ConflictError, InputError, NotFoundError
from mailfleet.base.ids import TenantId
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine.catalog import key_label
from mailfleet.engine.manage import Manager
from mailfleet.engine.requests import Actor
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.mail.dkim import SigningKey
from tests.engine.plant import DOMAIN, HOST, OWNER, Plant

STRANGER = Actor(TenantId(2))


# Sending domains


async def test_a_new_domain_says_what_to_publish_and_keeps_its_keys_sealed(plant: Plant) -> None:
    view = await plant.manager.add_domain(OWNER, " N\u00e9ws.Example ", ed25519=True)
    name = "xn--nws-bma.example"
    assert (view.domain, view.return_path_host, view.selectors) == (name, f"bounce.{name}", ["mf202601", "mf202601e"])
    records = {(one.name, one.type): one.value for one in view.records}
    assert records[f"mf202601._domainkey.{name}", "TXT"].startswith("v=DKIM1; k=rsa; p=")
    assert records[f"mf202601e._domainkey.{name}", "TXT"].startswith("v=DKIM1; k=ed25519; p=")
    assert records[f"bounce.{name}", "MX"] == f"10 {HOST}."
    assert HOST in records[f"bounce.{name}", "TXT"]
    assert records[f"_dmarc.{name}", "TXT"].startswith("v=DMARC1")
    assert all(one.purpose for one in view.records)
    assert await plant.manager.domain(OWNER, "N\u00e9ws.Example") == view
    assert "PRIVATE" not in view.model_dump_json()
    stored = await plant.rows("SELECT selector, sealed_key FROM dkim_key WHERE selector LIKE 'mf%'")
    for selector, sealed in stored:
        assert b"PRIVATE" not in sealed
        pem = plant.box.open(sealed, key_label(name, selector))
        assert SigningKey.from_pem(pem).public_record() == records[f"{selector}._domainkey.{name}", "TXT"]
        with pytest.raises(ConfigError):
            plant.box.open(sealed, key_label(DOMAIN, selector))
        with pytest.raises(ConfigError):
            SecretBox(bytes(32)).open(sealed, key_label(name, selector))
    identity = await plant.catalog.identity(name)
    assert identity
    assert len(identity.signers) == 2


async def test_a_domain_is_there_once(plant: Plant) -> None:
    before = await plant.counts()
    for actor in (OWNER, STRANGER):
        with pytest.raises(ConflictError, match="already"):
            await plant.manager.add_domain(actor, DOMAIN.upper())
    assert await plant.counts() == before


@pytest.mark.parametrize(
    "name", ["", "nodot", "a..b", "[192.0.2.1]", "a b.example", "-.example", "x" * 64 + ".example", "1.2.3.4"]
)
async def test_what_is_no_domain(plant: Plant, name: str) -> None:
    with pytest.raises(InputError):
        await plant.manager.add_domain(OWNER, name)


async def test_a_domain_is_removed_with_its_keys(plant: Plant) -> None:
    with pytest.raises(NotFoundError):
        await plant.manager.remove_domain(STRANGER, DOMAIN)
    await plant.catalog.identity(DOMAIN)
    await plant.manager.remove_domain(OWNER, f" {DOMAIN.upper()} ")
    assert await plant.manager.domains(OWNER) == []
    assert await plant.rows("SELECT * FROM dkim_key") == []
    assert await plant.catalog.identity(DOMAIN) is None
    with pytest.raises(NotFoundError, match="not a sending domain"):
        await plant.manager.remove_domain(OWNER, DOMAIN)
    with pytest.raises(NotFoundError):
        await plant.manager.domain(OWNER, DOMAIN)


async def test_records_are_put_in_place_where_the_dns_is_ours(plant: Plant) -> None:
    published: list[tuple[str, str, str]] = []
    manager = Manager(
        plant.database,
        plant.catalog,
        plant.box,
        defaults=SourceDefaults(HOST),
        clock=plant.clock,
        ids=plant.ids,
        publish=lambda *record: published.append(record),
    )
    view = await manager.add_domain(OWNER, "a.example")
    assert published == [(one.name, one.type, one.value) for one in view.records]


# SMTP logins


async def test_a_login_works_and_shows_its_password_once(plant: Plant) -> None:
    made = await plant.manager.add_credential(OWNER, username="app", stream="bulk", allowed_domains=[DOMAIN.upper()])
    assert made.password
    assert len(made.password) >= 32
    actor = await plant.manager.login("app", made.password)
    assert actor
    assert (actor.stream, actor.allowed_domains, actor.scopes, actor.name) == (
        "bulk",
        frozenset({DOMAIN}),
        frozenset({"send"}),
        "app",
    )
    (listed,) = await plant.manager.credentials(OWNER)
    assert listed == made.model_copy(update={"password": None})
    assert made.password.encode() not in b"".join(
        row[0] for row in await plant.rows("SELECT secret_hash FROM credential")
    )
    for username, password in (
        ("app", made.password + "x"),
        ("app", ""),
        ("App", made.password),
        ("nobody", made.password),
        ("", ""),
    ):
        assert await plant.manager.login(username, password) is None
    with pytest.raises(NotFoundError):
        await plant.manager.remove_credential(STRANGER, made.credential)
    await plant.manager.remove_credential(OWNER, made.credential)
    assert await plant.manager.login("app", made.password) is None
    with pytest.raises(NotFoundError, match="no such credential"):
        await plant.manager.remove_credential(OWNER, made.credential)


@pytest.mark.parametrize(
    ("username", "stream", "domains", "error", "where"),
    [
        ("a b", "bulk", [], InputError, "username"),
        ("", "bulk", [], InputError, "username"),
        ("x" * 129, "bulk", [], InputError, "username"),
        ("app", "other", [], InputError, "stream"),
        ("app", "bulk", ["other.example"], NotFoundError, "domain"),
        ("taken", "bulk", [], ConflictError, "username"),
    ],
)
async def test_a_login_that_cannot_be(
    plant: Plant, username: str, stream: str, domains: list[str], error: type[InputError], where: str
) -> None:
    await plant.manager.add_credential(OWNER, username="taken", stream="bulk", allowed_domains=[])
    before = await plant.counts()
    with pytest.raises(error) as caught:
        await plant.manager.add_credential(OWNER, username=username, stream=stream, allowed_domains=domains)
    assert caught.value.where == where
    assert caught.value.mend
    assert await plant.counts() == before


# API tokens


async def test_a_token_works_and_shows_its_secret_once(plant: Plant) -> None:
    made = await plant.manager.add_token(OWNER, name="ci", scopes=["send", "read"])
    assert made.secret
    assert made.secret.startswith("mf_")
    actor = await plant.manager.authenticate(made.secret)
    assert actor
    assert (actor.scopes, actor.name, actor.tenant_id) == (frozenset({"send", "read"}), "ci", OWNER.tenant_id)
    assert await plant.manager.tokens(OWNER) == [made.model_copy(update={"secret": None})]
    assert await plant.manager.tokens(STRANGER) == []
    assert await plant.manager.authenticate(made.secret.upper()) is None
    assert await plant.manager.authenticate("") is None
    with pytest.raises(NotFoundError):
        await plant.manager.remove_token(STRANGER, made.token)
    await plant.manager.remove_token(OWNER, made.token)
    assert await plant.manager.authenticate(made.secret) is None
    with pytest.raises(InputError, match="tok_X"):
        await plant.manager.remove_token(OWNER, "crd_0000000000007")


@pytest.mark.parametrize("scopes", [[], ["admin"], ["send", "root"], ["Send"]])
async def test_scopes_that_are_none(plant: Plant, scopes: list[str]) -> None:
    with pytest.raises(InputError, match="is no scope"):
        await plant.manager.add_token(OWNER, name="x", scopes=scopes)


async def test_nobody_gives_more_than_he_has(plant: Plant) -> None:
    some = Actor(OWNER.tenant_id, scopes=frozenset({"manage", "read"}))
    with pytest.raises(InputError, match="more than it has"):
        await plant.manager.add_token(some, name="x", scopes=["read", "send"])
    assert (await plant.manager.add_token(some, name="x", scopes=["read", "read"])).scopes == ["read"]


# Suppressions


async def test_an_address_is_suppressed_and_freed_with_its_events(plant: Plant) -> None:
    made = await plant.manager.suppress(OWNER, "Ann@X.example", None, "asked\r\nus  to")
    assert (made.address, made.stream, made.reason, made.evidence) == ("ann@x.example", None, "manual", "asked us to")
    assert made.origin == "by owner"
    plant.clock.skip(5)
    assert await plant.manager.suppress(OWNER, "ANN@x.example", None, "again") == made, "the first reason stands"
    await plant.manager.suppress(OWNER, "ann@x.example", "bulk", "news")
    for address, stream in (("ann@x.example", "transactional"), ("bob@x.example", None)):
        with pytest.raises(NotFoundError):
            await plant.manager.unsuppress(OWNER, address, stream)
    with pytest.raises(NotFoundError):
        await plant.manager.unsuppress(STRANGER, "ann@x.example", None)
    await plant.manager.unsuppress(OWNER, "ann@X.EXAMPLE", None)
    assert [one.stream for one in (await plant.manager.suppressions(OWNER, None, 9)).items] == ["bulk"]
    assert await plant.kinds() == ["suppression_added", "suppression_added", "suppression_removed"]
    assert (await plant.events())[2][1]["address"] == "ann@x.example"
    with pytest.raises(InputError, match="no stream"):
        await plant.manager.suppress(OWNER, "ann@x.example", "other", "")
    with pytest.raises(InputError):
        await plant.manager.suppress(OWNER, "nobody", None, "")


async def test_suppressions_in_pages(plant: Plant) -> None:
    for number in range(5):
        await plant.manager.suppress(OWNER, f"u{number}@x.example", None, "")
    found, after = [], None
    for _ in range(3):
        page = await plant.manager.suppressions(OWNER, after, 2)
        found += [one.address for one in page.items]
        after = page.next
    assert found == [f"u{number}@x.example" for number in range(5)]
    assert after is None


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "\u00b2", "9" * 30, " 1"])
async def test_a_cursor_that_is_none(plant: Plant, after: str) -> None:
    with pytest.raises(InputError, match="cursor"):
        await plant.manager.suppressions(OWNER, after, 2)
