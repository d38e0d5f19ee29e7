"""What the engine answers about certificates."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class HostKeys(NamedTuple):
    """What is shown for a host. ``shown`` and ``next`` are digests of keys as TLSA has them; empty where there is none to rely on.

    ``source``: ``managed`` here; ``file`` of another program; ``waiting`` for the first one; ``makeshift``, which nobody trusts.
    """

    source: str
    shown: str = ""
    next: str = ""
    changed_ms: int = 0
    not_before_ms: int = 0
    not_after_ms: int = 0
    problem: str = ""


class CertificateView(BaseModel):
    """The certificate of a host."""

    model_config = ConfigDict(frozen=True)

    host: str = Field(description="May begin with `*.`")
    issuer: str = Field(description="`acme`: an authority; `authority`: the sandbox's own; `own`: given by a person.")
    state: str = Field(description="`ok`, `waiting` (there is none yet), `expiring` or `expired`.")
    not_after: str = Field(description="Its end; empty while there is none.")
    next_try: str = Field(description="When it is renewed, or tried again; empty where that is not ours to do.")
    suggested: bool = Field(description="The authority asks for that time: our own margin would be later.")
    next_key: bool = Field(description="Another key waits until the DNS has told of it.")
    next_key_from: str = Field(description="When that key is shown; empty while the DNS does not tell of it yet.")
    tlsa: list[str] = Field(description="What TLSA records say of its key in use, and of the next one, as `3 1 1 ...`.")
    problem: str = Field(description="Why there is none, or why it could not be renewed.")
