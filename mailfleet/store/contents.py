"""Contents: a message or template stored once, whatever the number of its recipients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict

from mailfleet.store.database import Tx


class ContentInfo(BaseModel):
    """What is known of a content without opening its body."""

    model_config = ConfigDict(frozen=True)

    from_domain: str
    sender: str = ""
    subject: str = ""
    message_id: str = ""  # raw and single messages; a campaign's copies each have their own
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    eightbit: bool = False
    smtputf8: bool = False


class Content(NamedTuple):
    """``kind`` is ``compiled`` (mail.content.CompiledContent) or ``raw`` (a whole message, CRLF)."""

    id: int
    tenant_id: int
    kind: str
    body: bytes
    info: ContentInfo


def put(tx: Tx, content: Content, *, now_ms: int) -> None:
    """Store a content."""
    info = content.info
    tx.run(
        "INSERT INTO content (id, tenant_id, kind, message_id, body, info, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (content.id, content.tenant_id, content.kind, info.message_id, content.body, info.model_dump_json(), now_ms),
    )


def get(tx: Tx, content_id: int) -> Content | None:
    """One content, body included."""
    row = tx.row("SELECT id, tenant_id, kind, body, info FROM content WHERE id = ?", (content_id,))
    if row is None:
        return None
    return Content(row[0], row[1], row[2], row[3], ContentInfo(**orjson.loads(row[4])))


def small(tx: Tx, content_ids: Sequence[int], *, max_bytes: int) -> list[Content]:
    """Those of the contents whose body has at most ``max_bytes``."""
    rows = tx.rows(
        "SELECT id, tenant_id, kind, body, info FROM content WHERE id = ANY (?) AND length(body) <= ?",
        (list(content_ids), max_bytes),
    )
    return [Content(row[0], row[1], row[2], row[3], ContentInfo(**orjson.loads(row[4]))) for row in rows]


def info(tx: Tx, content_id: int) -> ContentInfo | None:
    """What is known of a content, without its body."""
    text = tx.value("SELECT info FROM content WHERE id = ?", (content_id,))
    return None if text is None else ContentInfo(**orjson.loads(text))


def by_message_id(tx: Tx, tenant_id: int, message_id: str) -> int | None:
    """The content of a single message by its Message-ID (angle brackets included)."""
    found = tx.value(
        "SELECT id FROM content WHERE message_id = ? AND message_id <> '' AND tenant_id = ? ORDER BY id DESC LIMIT 1",
        (message_id, tenant_id),
    )
    return None if found is None else int(found)
