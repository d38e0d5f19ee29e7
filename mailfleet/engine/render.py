"""From a claimed delivery to the bytes of its message: fill, convert where the remote needs it, sign."""

from __future__ import annotations

import base64
from collections import OrderedDict
from typing import NamedTuple

import orjson

from mailfleet.base import ids
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine.catalog import Catalog, Identity, LoadedContent
from mailfleet.engine.envelope import Envelope
from mailfleet.mail.address import Address
from mailfleet.mail.dkim import digest_of_relaxed, sign, sign_parts
from mailfleet.mail.downgrade import to_seven_bit
from mailfleet.smtp.extensions import Extensions
from mailfleet.smtp.transaction import Recipient, Transaction
from mailfleet.store.queue import Claimed

_SIGNED_RAW = 64  # raw messages kept signed: recipients of one submission follow each other


class Prepared(NamedTuple):
    """All that rendering needs, gathered before a connection is taken."""

    claimed: Claimed
    content: LoadedContent
    identity: Identity | None
    envelope: Envelope
    reverse_path: str
    message_id: str


class Renderer:
    """Renders for one delivery process."""

    def __init__(self, catalog: Catalog, box: SecretBox) -> None:
        self._catalog, self._box = catalog, box
        self._signed_raw: OrderedDict[tuple[int, bool], bytes] = OrderedDict()

    async def prepare(self, claimed: Claimed) -> Prepared:
        """Look up what is needed; from the caches but for the first of its kind."""
        content = await self._catalog.content(claimed.content_id)
        identity = await self._catalog.identity(content.info.from_domain)
        envelope = Envelope.load(claimed.envelope)
        reverse_path = envelope.reverse_path
        if reverse_path is None:
            host = identity.domain.return_path_host if identity else content.info.from_domain
            reverse_path = return_path(self._box, claimed.id, host)
        message_id = content.info.message_id or message_id_of(claimed.id, content.info.from_domain)
        return Prepared(claimed, content, identity, envelope, reverse_path, message_id)

    def transaction(
        self, prepared: Prepared, extensions: Extensions, *, now_ms: int, proven: bool = False
    ) -> Transaction:
        """The transaction for a remote with these extensions. Raises ``InputError`` when the message cannot be made.

        ``proven``: the session is fit for REQUIRETLS. A notification of such a message goes without it where it must.
        """
        claimed, envelope = prepared.claimed, prepared.envelope
        requires = envelope.tls == "require" and (proven or prepared.reverse_path != "")
        smtputf8 = envelope.smtputf8 or not claimed.address.isascii() or not prepared.reverse_path.isascii()
        if prepared.content.compiled is not None:
            fields = orjson.loads(claimed.fields) if claimed.fields else {}
            filled = prepared.content.compiled.fill(
                fields,
                recipient=Address.parse(claimed.address),
                display_name=str(fields.get("name") or ""),
                message_id=prepared.message_id,
                date_ms=claimed.accepted_ms,
            )
            signers = prepared.identity.signers if prepared.identity else ()
            signatures = sign_parts(filled.parts, digest_of_relaxed(filled.relaxed_body), signers, now_ms=now_ms)
            message = b"".join((signatures, *filled.parts, b"\r\n", filled.body))
            smtputf8, eightbit, dotted = smtputf8 or filled.smtputf8, filled.eightbit, filled.dotted
        else:
            info = prepared.content.info
            convert = info.eightbit and not extensions.eightbitmime
            message = self._raw(prepared, convert=convert, now_ms=now_ms)
            smtputf8, eightbit, dotted = smtputf8 or info.smtputf8, info.eightbit and not convert, True
        return Transaction(
            prepared.reverse_path,
            (Recipient(claimed.address, envelope.notify, envelope.orcpt),),
            message,
            eightbit,
            smtputf8,
            envelope.envid,
            envelope.ret,
            dotted,
            requires,
        )

    def _raw(self, prepared: Prepared, *, convert: bool, now_ms: int) -> bytes:
        key = (prepared.content.id, convert)
        found = self._signed_raw.get(key)
        if found is not None:
            self._signed_raw.move_to_end(key)
            return found
        message = prepared.content.raw
        assert message is not None
        if convert:  # RFC 6152 3: convert or bounce; signing comes after, so that the signature holds
            message = to_seven_bit(message)
        if prepared.identity is not None:
            header, _, body = message.partition(b"\r\n\r\n")
            message = sign(header + b"\r\n", body, prepared.identity.signers, now_ms=now_ms) + message
        if len(message) < 1_000_000:
            self._signed_raw[key] = message
            while len(self._signed_raw) > _SIGNED_RAW:
                self._signed_raw.popitem(last=False)
        return message


def message_id_of(delivery_id: int, domain: str) -> str:
    """The Message-ID of a campaign's copy: the same at every attempt."""
    return f"<{ids.public('dlv', delivery_id).lower()}@{domain}>"


def return_path(box: SecretBox, delivery_id: int, host: str) -> str:
    """A reverse-path that names its delivery and cannot be forged, so that a late bounce finds home."""
    name = ids.public("b", delivery_id).lower()
    tag = base64.b32encode(box.mac(name.encode(), "return-path", 5)).decode().lower()
    return f"{name}-{tag}@{host}"
