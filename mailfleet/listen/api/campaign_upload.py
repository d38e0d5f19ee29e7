"""Taking a campaign and its list: as one JSON document, or streamed as multipart with a million rows in bounded memory.

Each chunk of rows is staged by the engine before the next is read from the socket, so a slow disk slows the client and
nothing piles up. Whatever ends an upload early - a wrong part, a client gone - abandons it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from fastapi import Request

from mailfleet.base.errors import Problem
from mailfleet.engine.requests import Actor, RecipientRow
from mailfleet.engine.services import MAX_CHUNK_ROWS, CampaignService, CampaignUpload
from mailfleet.engine.views import CampaignAccepted
from mailfleet.listen.api.bodies import CampaignBody, CampaignOptions
from mailfleet.listen.http_body import media_type_of, read_body, room_of, too_large
from mailfleet.listen.http_multipart import PartBegins, PartEnds, PartEvent, part_events
from mailfleet.listen.http_problems import ProblemError
from mailfleet.mail.recipients import ObjectRows, RecipientReader, list_kind

MAX_JSON_BYTES = 32 * 1024 * 1024
MAX_CHUNK_BYTES = 4 * 1024 * 1024  # of a list, about, that are held as rows


class Chunks:
    """Hands rows and problems to an upload, at most ``MAX_CHUNK_ROWS`` at a time, in order, and fewer when they are long."""

    def __init__(self, upload: CampaignUpload) -> None:
        self._upload = upload
        self._rows: list[RecipientRow] = []
        self._problems: list[Problem] = []
        self._read_bytes = 0  # since the last flush

    async def take(self, found: Iterable[RecipientRow | Problem], read_bytes: int = 0) -> None:
        """Queue up; what fills a chunk goes to the upload before this returns. ``found`` was made of ``read_bytes`` of the list."""
        for item in found:
            if isinstance(item, RecipientRow):
                self._rows.append(item)
            else:
                self._problems.append(item)
            if len(self._rows) + len(self._problems) >= MAX_CHUNK_ROWS:
                await self.flush()
        self._read_bytes += read_bytes
        if self._read_bytes >= MAX_CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Hand over what is left."""
        self._read_bytes = 0
        if self._rows or self._problems:
            rows, self._rows = self._rows, []
            problems, self._problems = self._problems, []
            await self._upload.add(rows, problems)


class Intake:
    """One upload from its first byte to ``seal``; use as ``async with`` so that it is abandoned when it fails."""

    def __init__(self, campaigns: CampaignService, actor: Actor, idempotency_key: str, max_content_bytes: int) -> None:
        self._campaigns = campaigns
        self._actor = actor
        self._key = idempotency_key
        self._max_content_bytes = max_content_bytes
        self._upload: CampaignUpload | None = None

    async def __aenter__(self) -> Intake:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._upload is not None:
            await self._upload.abandon()

    async def receive(self, request: Request) -> tuple[CampaignAccepted, CampaignOptions]:
        """Read the request, stage its rows, seal. Raises the typed errors and ``ProblemError``."""
        media_type = media_type_of(request)
        if media_type == "application/json":
            return await self._json(await read_body(request, MAX_JSON_BYTES))
        if media_type == "multipart/form-data":
            return await self._multipart(request, part_events(request.headers["content-type"], request.stream()))
        raise ProblemError(
            "unsupported-media-type",
            f"a campaign cannot be sent as {media_type[:100] or 'no media type'}",
            where="Content-Type",
            mend="send application/json, or multipart/form-data with the parts campaign and recipients",
        )

    async def _open(self, options: CampaignOptions) -> CampaignUpload:
        self._upload = await self._campaigns.open(self._actor, options.request(self._key), previews=options.previews)
        return self._upload

    async def _json(self, data: bytes) -> tuple[CampaignAccepted, CampaignOptions]:
        body = CampaignBody.model_validate_json(data)
        upload = await self._open(body)
        chunks = Chunks(upload)
        objects = ObjectRows(body.address_column)
        await chunks.take(objects.row(number, value) for number, value in enumerate(body.recipients, start=1))
        await chunks.flush()
        return await upload.seal(), body

    async def _multipart(
        self, request: Request, events: AsyncIterator[PartEvent]
    ) -> tuple[CampaignAccepted, CampaignOptions]:
        options = await self._campaign_part(request, events)
        begins = await anext(events, None)
        if not isinstance(begins, PartBegins) or begins.name != "recipients":
            raise _wrong_part(
                "the second part is not recipients", "send the list as the part recipients, after campaign"
            )
        reader = RecipientReader(list_kind(begins.content_type, begins.filename), address_column=options.address_column)
        upload = await self._open(options)
        chunks = Chunks(upload)
        async for event in events:
            if isinstance(event, bytes):
                await chunks.take(reader.feed(event), len(event))
            elif isinstance(event, PartBegins):
                raise _wrong_part(f"a third part {event.name[:40]!r} follows", "send campaign and recipients only")
        await chunks.take(reader.close())
        await chunks.flush()
        return await upload.seal(), options

    async def _campaign_part(self, request: Request, events: AsyncIterator[PartEvent]) -> CampaignOptions:
        begins = await anext(events, None)
        if not isinstance(begins, PartBegins) or begins.name != "campaign":
            raise _wrong_part("the first part is not campaign", "send the JSON of the campaign first, then recipients")
        document = bytearray()
        async for event in events:
            if isinstance(event, PartEnds):
                break
            if isinstance(event, bytes):
                room_of(request).take(request, len(event))
                document += event
            if len(document) > self._max_content_bytes:
                raise too_large(self._max_content_bytes)
        return CampaignOptions.model_validate_json(bytes(document))


def _wrong_part(what: str, mend: str) -> ProblemError:
    return ProblemError("invalid-input", what, where="body", mend=mend)
