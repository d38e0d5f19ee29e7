"""``/v1/certificates``: of this server and of every host that sending domains show."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from mailfleet.engine.certificate_views import CertificateView
from mailfleet.listen.http_auth import Engine, Manager, Reader

router = APIRouter(prefix="/v1")
TAG = "Certificates"


class CertificateList(BaseModel):
    """By host."""

    items: list[CertificateView]


class RenewBody(BaseModel):
    """How to renew."""

    model_config = ConfigDict(extra="forbid")

    new_key: bool = Field(False, description="With another key, once the DNS has told of it (TLSA).")


class CertificateBody(BaseModel):
    """A certificate that was made elsewhere."""

    model_config = ConfigDict(extra="forbid")

    chain: str = Field(description="PEM, the server's own certificate first.", max_length=100_000)
    key: str = Field(description="PEM, unencrypted. Kept encrypted, never shown.", max_length=20_000)


@router.get("/certificates", tags=[TAG], summary="List certificates")
async def certificates(actor: Reader, engine: Engine) -> CertificateList:
    """Hosts that wait for their first one are among them."""
    return CertificateList(items=await engine.certificates.every(actor))


@router.post("/certificates", tags=[TAG], status_code=201, summary="Import a certificate")
async def import_certificate(body: CertificateBody, actor: Manager, engine: Engine) -> CertificateList:
    """It is shown for every host that it names, a moment later and without a connection lost."""
    return CertificateList(items=await engine.certificates.take(actor, body.chain, body.key))


@router.post("/certificates/{host}/renew", tags=[TAG], summary="Renew a certificate now")
async def renew_certificate(host: str, body: RenewBody, actor: Manager, engine: Engine) -> CertificateView:
    """It is asked for in the background; look again."""
    return await engine.certificates.renew(actor, host, new_key=body.new_key)


@router.delete("/certificates/{host}", tags=[TAG], status_code=204, summary="Forget a certificate")
async def remove_certificate(host: str, actor: Manager, engine: Engine) -> None:
    """A host that is to have one gets a new one."""
    await engine.certificates.forget(actor, host)
