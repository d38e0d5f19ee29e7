"""multipart/form-data (RFC 7578) as a stream of events, holding no more than one chunk: parts of any size in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from mailfleet.listen.http_problems import ProblemError


@dataclass(frozen=True, slots=True)
class PartBegins:
    """The header fields of a part are known; its data follow."""

    name: str
    filename: str
    content_type: str


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The data of the part are complete."""


PartEvent = PartBegins | bytes | PartEnds


class _Events:
    """Callbacks of the parser, gathered in order until the chunk is through."""

    def __init__(self) -> None:
        self.found: list[PartEvent] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""

    def on_part_begin(self) -> None:
        self._headers = {}

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self.found.append(
            PartBegins(
                options.get(b"name", b"").decode("utf-8", "replace"),
                options.get(b"filename", b"").decode("utf-8", "replace"),
                self._headers.get(b"content-type", b"").decode("latin-1"),
            )
        )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.found.append(data[start:end])

    def on_part_end(self) -> None:
        self.found.append(PartEnds())

    def on_end(self) -> None:
        self.ended = True


async def part_events(content_type: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[PartEvent]:
    """The parts of a body as they come. Raises ``ProblemError`` when it is no multipart body or stops in the middle."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046 5.1.1
        raise _malformed("the boundary parameter is missing or too long")
    events = _Events()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": events.on_part_begin,
            "on_header_field": events.on_header_field,
            "on_header_value": events.on_header_value,
            "on_header_end": events.on_header_end,
            "on_headers_finished": events.on_headers_finished,
            "on_part_data": events.on_part_data,
            "on_part_end": events.on_part_end,
            "on_end": events.on_end,
        },
    )
    async for chunk in chunks:
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise _malformed(str(error)) from None
        found, events.found = events.found, []
        for event in found:
            yield event
    if not events.ended:
        raise _malformed("the body ends before its last boundary")


def _malformed(what: str) -> ProblemError:
    return ProblemError(
        "malformed",
        f"the multipart body cannot be read: {what}",
        where="body",
        mend="send it with a common HTTP client",
    )
