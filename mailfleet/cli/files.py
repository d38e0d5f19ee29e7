"""What ``send`` reads from disk: templates as UTF-8, attachments, and the images that an HTML file names by relative path."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mailfleet.base.errors import Problem
from mailfleet.cli.frame import CliError, ExitCode

MAX_TEMPLATE_BYTES = 5_000_000
_IMAGE = re.compile(r"""(<img\b[^>]*?\bsrc\s*=\s*)(["'])(.*?)\2""", re.IGNORECASE | re.DOTALL)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//|#|\{\{|\{%", re.IGNORECASE)


def read_text(path: Path, option: str) -> str:
    """A template file. Raises ``CliError`` naming the line of the first byte that is not UTF-8."""
    raw = read_bytes(path, option)
    if len(raw) > MAX_TEMPLATE_BYTES:
        raise CliError(
            f"the file has {len(raw):,} bytes; at most {MAX_TEMPLATE_BYTES:,} are taken",
            where=str(path),
            mend="send large images by URL or as attachments",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise CliError(
            f"the file is not UTF-8: byte 0x{raw[error.start]:02x}",
            where=f"{path}, line {line}",
            mend="save it as UTF-8 in your editor",
        ) from None


def read_bytes(path: Path, option: str) -> bytes:
    """A whole file. Raises ``CliError`` (usage) naming the option when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, option, error) from None


def unreadable(path: Path, option: str, error: OSError) -> CliError:
    """The error for a file named on the command line that cannot be read."""
    return CliError(
        f"cannot read the file: {error.strerror or error}",
        where=str(path),
        mend=f"check the path given to {option}",
        code=ExitCode.USAGE,
    )


def attachment(path: Path, raw: bytes, content_id: str = "") -> dict[str, Any]:
    """A file in the shape of the API's attachments."""
    guessed, encoding = mimetypes.guess_type(path.name)
    kind = guessed if guessed and not encoding else "application/octet-stream"
    made = {"filename": path.name, "content_type": kind, "content": base64.b64encode(raw).decode("ascii")}
    if content_id:
        made["content_id"] = content_id
    return made


def attachments(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The files given to ``--attach``."""
    return [attachment(path, read_bytes(path, "--attach")) for path in paths]


def embed_images(html: str, path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Turn ``<img src="relative/path.png">`` into ``cid:`` images that travel with the message.

    A relative path means nothing in a mailbox. Paths are taken relative to the HTML file; URLs, ``cid:`` and template
    expressions stay. Raises ``CliError`` naming every image that is not there, by line.
    """
    found: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []

    def replace(match: re.Match[str]) -> str:
        source = match[3].strip()
        if not source or _ELSEWHERE.match(source):
            return match[0]
        file = path.parent / unquote(source.split("?")[0])
        try:
            raw = file.read_bytes()
        except OSError as error:
            line = html.count("\n", 0, match.start(3)) + 1
            problems.append(
                Problem(line, "missing-image", f"the image cannot be read: {error.strerror}", value=source, field="src")
            )
            return match[0]
        content_id = f"{hashlib.sha256(raw).hexdigest()[:16]}@mailfleet"
        found.setdefault(content_id, attachment(file, raw, content_id))
        return f"{match[1]}{match[2]}cid:{content_id}{match[2]}"

    embedded = _IMAGE.sub(replace, html)
    if problems:
        raise CliError(
            "the HTML names images that are not there",
            where=str(path),
            mend="put them beside the HTML file, or use their https:// address",
            problems=[{"line": one.line, "field": one.field, "what": one.what, "value": one.value} for one in problems],
        )
    return embedded, list(found.values())
