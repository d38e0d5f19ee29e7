"""What entrances hand to the engine: plain values, already parsed, not yet judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mailfleet.base.ids import CredentialId, TenantId, TokenId
from mailfleet.mail.content import Attachment
from mailfleet.mail.recipients_row import RecipientRow

__all__ = [
    "Actor",
    "Attachment",
    "CampaignRequest",
    "EnvelopeRecipient",
    "MessageRequest",
    "RecipientRow",
    "SubmittedMessage",
]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. ``allowed_domains`` empty means every sending domain of the tenant. ``scopes``: ``send``, ``read``, ``manage``."""

    tenant_id: TenantId
    token_id: TokenId | None = None
    credential_id: CredentialId | None = None
    name: str = ""
    scopes: frozenset[str] = frozenset({"send", "read", "manage"})
    allowed_domains: frozenset[str] = frozenset()
    stream: str = "transactional"


@dataclass(frozen=True, slots=True)
class EnvelopeRecipient:
    """One RCPT TO. ``notify`` is a subset of NEVER, SUCCESS, FAILURE, DELAY, or None when not given (RFC 3461 4.1)."""

    address: str
    notify: frozenset[str] | None = None
    orcpt: str = ""  # decoded from xtext: "rfc822;ann@example.org"


@dataclass(frozen=True, slots=True)
class SubmittedMessage:
    """A message as it came over SMTP: the envelope and the bytes after dot-unstuffing, CRLF line ends."""

    reverse_path: str  # "" is the null reverse-path
    recipients: Sequence[EnvelopeRecipient]
    data: bytes
    smtputf8: bool = False
    ret: str = ""  # FULL, HDRS or empty
    envid: str = ""  # decoded from xtext
    ehlo_name: str = ""
    peer_ip: str = ""
    protocol: str = "ESMTP"  # ESMTP, ESMTPS, ESMTPA, ESMTPSA, UTF8SMTP... (RFC 3848, RFC 6531 4.3)
    tls: str = ""  # for example "TLSv1.3 TLS_AES_256_GCM_SHA384"
    requiretls: bool = False  # RFC 8689


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """One message by API: structured, or ``raw``. Templates are filled when ``fields`` is given (and only then)."""

    sender: str  # From: address or 'Name <address>'; for raw may be empty: then the From field decides
    to: Sequence[str] = ()
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    subject: str = ""
    html: str | None = None
    text: str | None = None
    reply_to: str = ""
    headers: Sequence[tuple[str, str]] = ()
    attachments: Sequence[Attachment] = ()
    raw: bytes | None = None
    fields: Mapping[str, object] | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream: str = ""  # empty: the actor's
    send_at_ms: int | None = None
    idempotency_key: str = ""
    tls: Literal["", "require"] = ""  # require: as with REQUIRETLS (RFC 8689)


@dataclass(frozen=True, slots=True)
class CampaignRequest:
    """The content of a campaign; recipients follow in chunks. Every text field is a template over the recipient's fields."""

    name: str
    sender: str
    subject: str
    html: str | None = None
    text: str | None = None
    reply_to: str = ""
    headers: Sequence[tuple[str, str]] = ()
    attachments: Sequence[Attachment] = ()
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream: str = "bulk"
    send_at_ms: int | None = None
    skip_invalid: bool = False
    dry_run: bool = False
    rates: str = ""  # of its own, as policy.rates reads them
    idempotency_key: str = ""
