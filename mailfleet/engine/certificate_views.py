"""What the engine answers about certificates."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CertificateView(BaseModel):
    """The certificate of a host."""

    model_config = ConfigDict(frozen=True)

    host: str = Field(description="May begin with `*.`")
    issuer: str = Field(description="`acme`: an authority; `authority`: the sandbox's own; `own`: given by a person.")
    state: str = Field(description="`ok`, `waiting` (there is none yet), `expiring` or `expired`.")
    not_after: str = Field(description="Its end; empty while there is none.")
    next_try: str = Field(description="When it is renewed, or tried again; empty where that is not ours to do.")
    next_key: bool = Field(description="Another key waits until the DNS has told of it.")
    tlsa: list[str] = Field(description="What TLSA records say of its key in use, and of the next one, as `3 1 1 ...`.")
    problem: str = Field(description="Why there is none, or why it could not be renewed.")
