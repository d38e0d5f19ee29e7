"""``/v1/domains/...`` and ``/v1/dns-zones``: what the DNS must hold for sending domains, whether it does, and putting it there."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mailfleet.engine.digest import DigestView
from mailfleet.engine.domain_views import (
    ChecksView,
    DomainSettings,
    KeysView,
    PastCheckView,
    PlanView,
    PublishView,
    ZoneView,
)
from mailfleet.listen.api.bodies import Line
from mailfleet.listen.http_auth import Engine, Manager, Reader
from mailfleet.mail.bimi import MAX_BYTES

router = APIRouter(prefix="/v1")
TAG = "DNS of sending domains"
Provider = Annotated[
    str,
    Query(
        alias="for", max_length=50, description="A DNS provider: with what its form wants, `cloudflare` for example."
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PublishBody(_Body):
    """How far to go."""

    adopt: bool = Field(False, description="Merge into or replace what others have where our records should be.")
    dry_run: bool = Field(False, description="Only say what would be changed.")
    shown: str = Field(
        "",
        max_length=100,
        description="The `mark` of a dry run: 409 and nothing done where the changes are others by now.",
    )


class RotateBody(_Body):
    """How to change the key."""

    at_once: bool = Field(
        False, description="It leaked: the old one goes as soon as the new one signs, older ones at once."
    )


class LogoBody(_Body):
    """A logo in SVG Tiny PS."""

    svg: str = Field(max_length=MAX_BYTES, min_length=1)


class ZoneBody(_Body):
    """A zone that may be written to: by dynamic update (``server`` and what follows), or through a ``provider`` of octoDNS."""

    zone: Line = Field(examples=["shop.example"])
    server: Line = Field(
        "", description="Address, or address:port, of its primary name server.", examples=["192.0.2.53"]
    )
    key_name: Line = Field("", description="Of the TSIG key; empty signs nothing.")
    secret: Line = Field("", description="Base64. Kept encrypted, never shown.")
    algorithm: Line = "hmac-sha256"
    provider: Line = Field(
        "",
        description="Package and class of a provider of octoDNS that is installed beside Mailfleet.",
        examples=["octodns_cloudflare.CloudflareProvider"],
    )
    settings: dict[Line, Line | int | float | bool] = Field(
        {}, max_length=50, description="What the provider is made with. Shown; no secrets."
    )
    secrets: dict[Line, Annotated[str, Field(max_length=20_000)]] = Field(
        {}, max_length=50, description="Further settings of the provider. Kept encrypted, never shown."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.server) == bool(self.provider):
            raise ValueError("give either server or provider")
        dynamic = self.model_fields_set & {"key_name", "secret", "algorithm"}
        if self.provider and dynamic:
            raise ValueError(f"{min(dynamic)} is of dynamic update: give it with server")
        if self.server and (self.settings or self.secrets):
            raise ValueError("settings and secrets are of a provider")
        return self


class History(BaseModel):
    """Changes of state, newest first."""

    items: list[PastCheckView]


class ZoneList(BaseModel):
    """Zones that may be written to."""

    items: list[ZoneView]


@router.get("/domains/{domain}/plan", tags=[TAG], summary="See what the DNS must hold")
async def plan(domain: str, actor: Reader, engine: Engine, provider: Provider = "") -> PlanView:
    """What others have in the DNS now is taken into account."""
    return await engine.domains.plan(actor, domain, provider)


@router.get("/dns-plans/never-sends", tags=[TAG], summary="Plan a domain that never sends")
async def plan_never_sends(
    actor: Reader, engine: Engine, domain: Annotated[str, Query(max_length=300)], provider: Provider = ""
) -> PlanView:
    """Records by which nobody can speak in its name."""
    return await engine.domains.plan_never_sends(domain, provider)


@router.get("/domains/{domain}/checks", tags=[TAG], summary="See how the checks stand")
async def checks(domain: str, actor: Reader, engine: Engine) -> ChecksView:
    """As they were found last; empty where nobody has looked yet."""
    return await engine.domains.standing(actor, domain)


@router.post("/domains/{domain}/check", tags=[TAG], summary="Check now")
async def check(domain: str, actor: Manager, engine: Engine) -> ChecksView:
    """Every authoritative server is asked."""
    return await engine.domains.check(actor, domain)


@router.get("/domains/{domain}/history", tags=[TAG], summary="See what has changed")
async def history(
    domain: str, actor: Reader, engine: Engine, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> History:
    """Each change of state of a check."""
    return History(items=await engine.domains.history(actor, domain, limit))


@router.post("/domains/{domain}/publish", tags=[TAG], summary="Put the plan into the DNS")
async def publish(domain: str, body: PublishBody, actor: Manager, engine: Engine) -> PublishView:
    """Only records of ours are touched. Doing it twice changes nothing."""
    return await engine.domains.publish(actor, domain, adopt=body.adopt, dry_run=body.dry_run, shown=body.shown)


@router.post("/domains/{domain}/unpublish", tags=[TAG], summary="Take our records out of the DNS")
async def unpublish(domain: str, actor: Manager, engine: Engine) -> PublishView:
    """Before a domain is removed."""
    return await engine.domains.remove(actor, domain)


@router.get("/domains/{domain}/settings", tags=[TAG], summary="See what is set of a domain")
async def settings(domain: str, actor: Reader, engine: Engine) -> DomainSettings:
    """What can be set of a domain's DNS."""
    return await engine.domain_options.get(actor, domain)


@router.put("/domains/{domain}/settings", tags=[TAG], summary="Set what can be set of a domain")
async def set_settings(domain: str, body: DomainSettings, actor: Manager, engine: Engine) -> DomainSettings:
    """All of them; publish afterwards."""
    return await engine.domain_options.set(actor, domain, body)


@router.put("/domains/{domain}/logo", tags=[TAG], summary="Set the logo that BIMI shows")
async def set_logo(domain: str, body: LogoBody, actor: Manager, engine: Engine) -> DomainSettings:
    """Refused with the first thing that mailbox providers would not take."""
    return await engine.domain_options.set_logo(actor, domain, body.svg.encode())


@router.delete("/domains/{domain}/logo", tags=[TAG], summary="Take the logo away")
async def remove_logo(domain: str, actor: Manager, engine: Engine) -> DomainSettings:
    """Publish afterwards."""
    return await engine.domain_options.set_logo(actor, domain, None)


@router.get("/domains/{domain}/keys", tags=[TAG], summary="List DKIM keys")
async def keys(domain: str, actor: Reader, engine: Engine) -> KeysView:
    """With their stage, and a warning where one is short or old."""
    return await engine.rotation.keys(actor, domain)


@router.post("/domains/{domain}/rotate", tags=[TAG], summary="Change the DKIM key")
async def rotate(domain: str, body: RotateBody, actor: Manager, engine: Engine) -> KeysView:
    """The next key signs as soon as every name server has it; the old one stays for mail under way."""
    return await engine.rotation.rotate(actor, domain, at_once=body.at_once)


@router.get("/digest", tags=[TAG], summary="See the nightly mail before it is sent")
async def digest(actor: Reader, engine: Engine) -> DigestView:
    """What changed since the last one and what is wrong; nothing is sent."""
    return await engine.digests.view(actor)


@router.get("/dns-zones", tags=[TAG], summary="List zones that may be written to")
async def zones(actor: Manager, engine: Engine) -> ZoneList:
    """Without secrets."""
    return ZoneList(items=await engine.dns_zones.all())


@router.post("/dns-zones", tags=[TAG], status_code=201, summary="Add a zone that may be written to")
async def add_zone(body: ZoneBody, actor: Manager, engine: Engine) -> ZoneView:
    """Nothing is written yet. A provider must be able to read the zone now."""
    if body.provider:
        return await engine.dns_zones.add_provider(
            actor, body.zone, provider=body.provider, settings=body.settings, secrets=body.secrets
        )
    return await engine.dns_zones.add_dynamic(
        actor, body.zone, server=body.server, key_name=body.key_name, secret=body.secret, algorithm=body.algorithm
    )


@router.delete("/dns-zones/{zone}", tags=[TAG], status_code=204, summary="Remove a zone")
async def remove_zone(zone: str, actor: Manager, engine: Engine) -> None:
    """Nothing is written there any more; what is there stays."""
    await engine.dns_zones.remove(zone)
