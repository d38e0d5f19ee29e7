"""What clients send, as schemas: read strictly, documented with examples, turned into the engine's requests."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.config import JsonDict

from mailfleet.base.clock import parse_rfc3339
from mailfleet.engine.requests import Attachment, CampaignRequest, MessageRequest

Scope = Literal["send", "read", "manage"]


def _one_line(text: str) -> str:
    if any(letter in text for letter in "\r\n\0"):
        raise ValueError("a line break or NUL cannot be in here")
    return text


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair cannot be in here") from None
    return text


def _base64(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("base64 text is expected")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is not valid base64 (RFC 4648 section 4)") from None


def _instant(text: str) -> str:
    try:
        parse_rfc3339(text)
    except (ValueError, OverflowError):
        raise ValueError("a time is written as RFC 3339 with an offset, for example 2026-01-31T09:00:00Z") from None
    return text


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(_encodable)]
Line = Annotated[str, Field(max_length=2000), AfterValidator(_encodable), AfterValidator(_one_line)]
Bytes = Annotated[
    bytes,
    BeforeValidator(_base64),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "examples": ["SGVsbG8="]}),
]
Instant = Annotated[str, AfterValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
Addresses = Annotated[list[Line], BeforeValidator(_listed), Field(max_length=10_000)]
Tags = Annotated[list[Annotated[Line, Field(max_length=100)]], Field(max_length=20)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=100)], Annotated[Text, Field(max_length=1000)]], Field(max_length=50)
]
HeaderFields = Annotated[dict[Line, Line | list[Line]], Field(max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class AttachmentBody(_Body):
    """A file to attach. With `content_id` it is an inline image that the HTML names as `cid:content_id`."""

    filename: Line = Field(examples=["invoice.pdf"])
    content_type: Line = Field("application/octet-stream", examples=["application/pdf"])
    content: Bytes = Field(description="The file's bytes in base64.")
    content_id: Line = Field("", examples=["logo"])

    def input(self) -> Attachment:
        """As the engine takes it."""
        return Attachment(self.filename, self.content_type, self.content, self.content_id)


class _Content(_Body):
    """What messages and campaigns have in common."""

    sender: Line = Field(
        "", alias="from", description="Address, or `Name <address>`.", examples=["Shop <news@shop.example>"]
    )
    reply_to: Line = ""
    subject: Line = Field("", examples=["Your order 1234"])
    html: Text | None = Field(
        None, description="If `text` is missing it is made from this.", examples=["<p>Thank you, Ann.</p>"]
    )
    text: Text | None = None
    headers: HeaderFields = Field({}, description="More header fields: name to value, or to a list of values.")
    attachments: list[AttachmentBody] = Field([], max_length=100)
    tags: Tags = []
    metadata: Metadata = Field({}, description="Yours; comes back with each delivery.")
    send_at: Instant | None = Field(None, description="Not before this instant (RFC 3339 with an offset).")

    def shared(self) -> dict[str, Any]:
        """The members of both of the engine's requests."""
        return {
            "sender": self.sender,
            "subject": self.subject,
            "html": self.html,
            "text": self.text,
            "reply_to": self.reply_to,
            "headers": _pairs(self.headers),
            "attachments": tuple(attachment.input() for attachment in self.attachments),
            "tags": tuple(self.tags),
            "metadata": dict(self.metadata),
            "send_at_ms": None if self.send_at is None else parse_rfc3339(self.send_at),
        }


class MessageBody(_Content):
    """One message: structured (`from`, `to`, `subject`, `html` or `text`), or `raw`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "from": "Shop <news@shop.example>",
                    "to": ["Ann Lee <ann@gmail.example>"],
                    "subject": "Your order 1234",
                    "html": "<p>Thank you, Ann.</p>",
                    "tags": ["order"],
                    "metadata": {"order": "1234"},
                }
            ]
        }
    )

    to: Addresses = []
    cc: Addresses = []
    bcc: Addresses = []
    fields: dict[str, Any] | None = Field(
        None,
        description="Values for `{{ variables }}` in subject, html and text, which are templates only if this is given.",
    )
    raw: Bytes | None = Field(None, description="A whole message (RFC 5322) in base64, instead of html and text.")
    stream: Line = Field("", description="Empty takes the token's own.", examples=["transactional"])
    tls: Literal["", "require"] = Field("", description="`require`: only by hosts that offer REQUIRETLS (RFC 8689).")

    @model_validator(mode="after")
    def _complete(self) -> MessageBody:
        if self.raw is not None:
            if (
                self.html is not None
                or self.text is not None
                or self.subject
                or self.attachments
                or self.fields is not None
            ):
                raise ValueError(
                    "raw is a whole message: html, text, subject, attachments and fields cannot stand beside it"
                )
            return self
        if not self.sender:
            raise ValueError("from is missing")
        if not (self.to or self.cc or self.bcc):
            raise ValueError("there is no recipient in to, cc or bcc")
        if self.html is None and self.text is None:
            raise ValueError("there is neither html nor text")
        return self

    def request(self, idempotency_key: str) -> MessageRequest:
        """As the engine takes it."""
        return MessageRequest(
            **self.shared(),
            to=tuple(self.to),
            cc=tuple(self.cc),
            bcc=tuple(self.bcc),
            raw=self.raw,
            fields=self.fields,
            stream=self.stream,
            idempotency_key=idempotency_key,
            tls=self.tls,
        )


_EXAMPLE: JsonDict = {
    "name": "January news",
    "from": "Shop <news@shop.example>",
    "subject": "News for {{ name }}",
    "html": "<p>Hello {{ name }}</p>",
}


class CampaignOptions(_Content):
    """The content of a campaign and how to take its list. Every text is a template over the recipient's fields."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Line = Field("", description="For you to know it by; empty takes the subject.")
    stream: Line = "bulk"
    skip_invalid: bool = Field(
        False, description="Send to the good rows. Otherwise one bad row refuses the list whole."
    )
    dry_run: bool = Field(False, description="Check everything, send nothing.")
    rate: Line = Field("", description="No faster than this, for example `50/s` or `10/s 20000/d`; empty for any.")
    previews: int = Field(0, ge=0, le=100, description="Whole messages to show, filled for the first good rows.")
    address_column: Line = Field("", description="The column with the address; empty looks for email and the like.")

    @model_validator(mode="after")
    def _complete(self) -> CampaignOptions:
        if not self.sender:
            raise ValueError("from is missing")
        if not self.subject:
            raise ValueError("subject is missing")
        if self.html is None and self.text is None:
            raise ValueError("there is neither html nor text")
        return self

    def request(self, idempotency_key: str) -> CampaignRequest:
        """As the engine takes it."""
        return CampaignRequest(
            **self.shared(),
            name=self.name or self.subject,
            stream=self.stream,
            skip_invalid=self.skip_invalid,
            dry_run=self.dry_run,
            rates=self.rate,
            idempotency_key=idempotency_key,
        )


class CampaignBody(CampaignOptions):
    """A campaign with its list in the same JSON. Larger lists go as multipart/form-data."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_EXAMPLE, "recipients": [{"email": "ann@gmail.example", "name": "Ann"}]}]}
    )

    recipients: list[dict[str, Any] | str] = Field(
        description="Objects with the address in `email` (or `address_column`), flat or with their values under `fields`; "
        "or plain addresses.",
        examples=[[{"email": "ann@gmail.example", "name": "Ann"}, "bob@outlook.example"]],
    )


class DomainBody(_Body):
    """A sending domain to add."""

    domain: Line = Field(max_length=253, examples=["shop.example"])
    ed25519: bool = Field(False, description="Make an Ed25519 key beside the RSA one (RFC 8463).")


class CredentialBody(_Body):
    """An SMTP login to make."""

    username: Line = Field(min_length=1, max_length=200, examples=["webshop"])
    stream: Line = "transactional"
    allowed_domains: list[Line] = Field([], max_length=1000, description="Empty allows every sending domain.")


class TokenBody(_Body):
    """An API token to make."""

    name: Line = Field(min_length=1, max_length=200, examples=["web shop"])
    scopes: list[Scope] = Field(min_length=1, max_length=3)


class SuppressionBody(_Body):
    """An address to mail no more."""

    address: Line = Field(max_length=400, examples=["ann@gmail.example"])
    stream: Line | None = Field(None, description="Only this stream; null means the whole tenant.")
    reason: Line = Field("manual", max_length=500)


class PauseBody(_Body):
    """Why a campaign is paused."""

    reason: Line = Field("paused by API", max_length=500)


def _pairs(headers: Mapping[str, str | list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value) for name, values in headers.items() for value in ([values] if isinstance(values, str) else values)
    )
