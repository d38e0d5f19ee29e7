"""Forms of pages: read within bounds, and what is wrong in them by field. Who may send one is decided in ``web.frame``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mailfleet.base.errors import InputError

SMALL_FORM_BYTES = 16 * 1024
MAX_FORM_BYTES = 256 * 1024  # with files
MAX_FIELDS = 40

Troubles = Mapping[str, InputError]
"""What is wrong, by the name of the field; ``""`` is the form as a whole."""


class Upload(NamedTuple):
    """A file of a form."""

    field: str
    name: str
    data: bytes


class Form(dict[str, str]):
    """What was typed, by field. ``files``: what was chosen, by field; ``uploads``: the same, every one with its own name."""

    def __init__(self, fields: Mapping[str, str], uploads: Sequence[Upload] = ()) -> None:
        super().__init__(fields)
        self.uploads = uploads
        self.files = {one.field: one.data for one in uploads}

    def text_of(self, field: str) -> str:
        """What is in the file of ``<field>_file``, or else what was typed; lines end as they do here, not as forms send them."""
        text = self.files.get(f"{field}_file", b"").decode("utf-8", "replace").strip() or self.get(field, "").strip()
        return text.replace("\r\n", "\n")


async def read_form(request: Request, most_bytes: int = SMALL_FORM_BYTES) -> Form | None:
    """None when it is none, or larger than ``most_bytes``."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return None
    body = await _body(request, most_bytes)
    if body is None:
        return None
    if kind == "application/x-www-form-urlencoded":
        try:
            found = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            return None
        return Form({name: values[0] for name, values in found.items()})
    try:
        parts = await MultiPartParser(
            request.headers, _chunks(body), max_files=MAX_FIELDS, max_fields=MAX_FIELDS, max_part_size=most_bytes
        ).parse()
    except (MultiPartException, KeyError, LookupError):
        return None
    return await _of_parts(parts)


def troubles_of(error: InputError | ValidationError) -> Troubles:
    """What an error says, by field, in its own words. Values are left out."""
    if isinstance(error, InputError):
        return {error.where: error}
    found: dict[str, InputError] = {}
    for one in error.errors(include_input=False, include_url=False):
        field = str(one["loc"][0]) if one["loc"] else ""
        found.setdefault(field, InputError(one["msg"].removeprefix("Value error, "), where=field))
    return found


async def _body(request: Request, most_bytes: int) -> bytes | None:
    """All of it; None when it is too large. That is read to its end all the same, or a browser would not see the answer."""
    body, seen = bytearray(), 0
    try:
        async for chunk in request.stream():
            seen += len(chunk)
            if seen <= most_bytes:
                body += chunk
    except HTTPException:  # larger than any request may be
        return None
    return bytes(body) if seen <= most_bytes else None


async def _chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
    yield b""  # the end


async def _of_parts(parts: FormData) -> Form:
    fields: dict[str, str] = {}
    uploads: list[Upload] = []
    for name, value in parts.multi_items():
        if isinstance(value, UploadFile):
            uploads.append(Upload(name, value.filename or "", await value.read()))
        else:
            fields.setdefault(name, value)
    await parts.close()
    return Form(fields, uploads)
