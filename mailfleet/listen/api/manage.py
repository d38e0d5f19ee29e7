"""``/v1/domains``, ``/v1/credentials``, ``/v1/tokens`` and ``/v1/suppressions``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from mailfleet.engine.views import CredentialView, DomainView, SuppressionPage, SuppressionView, TokenView
from mailfleet.listen.api.bodies import CredentialBody, DomainBody, SuppressionBody, TokenBody
from mailfleet.listen.api.paging import After, Limit
from mailfleet.listen.http_auth import Engine, Manager, Reader

router = APIRouter(prefix="/v1")


class DomainList(BaseModel):
    """Every sending domain."""

    items: list[DomainView]


class CredentialList(BaseModel):
    """Every SMTP login, without passwords."""

    items: list[CredentialView]


class TokenList(BaseModel):
    """Every API token, without secrets."""

    items: list[TokenView]


@router.get("/domains", tags=["Sending domains"], summary="List sending domains")
async def list_domains(actor: Reader, engine: Engine) -> DomainList:
    """With the DNS records that each needs."""
    return DomainList(items=await engine.manage.domains(actor))


@router.post("/domains", tags=["Sending domains"], status_code=201, summary="Add a sending domain")
async def add_domain(body: DomainBody, actor: Manager, engine: Engine) -> DomainView:
    """Keys are made; the answer names the DNS records to publish."""
    return await engine.manage.add_domain(actor, body.domain, ed25519=body.ed25519)


@router.get("/domains/{domain}", tags=["Sending domains"], summary="See a sending domain")
async def get_domain(domain: str, actor: Reader, engine: Engine) -> DomainView:
    """With the DNS records that it needs."""
    return await engine.manage.domain(actor, domain)


@router.delete("/domains/{domain}", tags=["Sending domains"], status_code=204, summary="Remove a sending domain")
async def remove_domain(domain: str, actor: Manager, engine: Engine) -> None:
    """Its keys and its DMARC reports are forgotten."""
    await engine.manage.remove_domain(actor, domain)


@router.get("/credentials", tags=["SMTP credentials"], summary="List SMTP credentials")
async def list_credentials(actor: Manager, engine: Engine) -> CredentialList:
    """Without passwords, which are not kept."""
    return CredentialList(items=await engine.manage.credentials(actor))


@router.post("/credentials", tags=["SMTP credentials"], status_code=201, summary="Make an SMTP credential")
async def add_credential(body: CredentialBody, actor: Manager, engine: Engine) -> CredentialView:
    """The password is in this answer and never again."""
    return await engine.manage.add_credential(
        actor, username=body.username, stream=body.stream, allowed_domains=body.allowed_domains
    )


@router.delete(
    "/credentials/{credential}", tags=["SMTP credentials"], status_code=204, summary="Remove an SMTP credential"
)
async def remove_credential(credential: str, actor: Manager, engine: Engine) -> None:
    """Its next login is refused."""
    await engine.manage.remove_credential(actor, credential)


@router.get("/tokens", tags=["API tokens"], summary="List API tokens")
async def list_tokens(actor: Manager, engine: Engine) -> TokenList:
    """Without secrets, which are not kept."""
    return TokenList(items=await engine.manage.tokens(actor))


@router.post("/tokens", tags=["API tokens"], status_code=201, summary="Make an API token")
async def add_token(body: TokenBody, actor: Manager, engine: Engine) -> TokenView:
    """The secret is in this answer and never again. A token with `manage` can make tokens with any scope."""
    return await engine.manage.add_token(actor, name=body.name, scopes=sorted(set(body.scopes)))


@router.delete("/tokens/{token}", tags=["API tokens"], status_code=204, summary="Remove an API token")
async def remove_token(token: str, actor: Manager, engine: Engine) -> None:
    """Its next request is refused."""
    await engine.manage.remove_token(actor, token)


@router.get("/suppressions", tags=["Suppressions"], summary="List suppressions")
async def list_suppressions(actor: Reader, engine: Engine, after: After = None, limit: Limit = 50) -> SuppressionPage:
    """Addresses that will not be mailed, with why."""
    return await engine.manage.suppressions(actor, after, limit)


@router.post("/suppressions", tags=["Suppressions"], status_code=201, summary="Suppress an address")
async def suppress(body: SuppressionBody, actor: Manager, engine: Engine) -> SuppressionView:
    """Later deliveries to it end as `suppressed`, visibly."""
    return await engine.manage.suppress(actor, body.address, body.stream, body.reason)


@router.delete("/suppressions", tags=["Suppressions"], status_code=204, summary="Lift a suppression")
async def unsuppress(
    actor: Manager,
    engine: Engine,
    address: Annotated[str, Query(max_length=400, description="The address.")],
    stream: Annotated[
        str | None, Query(max_length=200, description="Left out: the whole tenant's suppression.")
    ] = None,
) -> None:
    """The address is mailed again from now on."""
    await engine.manage.unsuppress(actor, address, stream)
