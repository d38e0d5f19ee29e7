"""Handing a campaign over: one multipart request whose recipient list is streamed from disk, so its size does not matter."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mailfleet.cli import show
from mailfleet.cli.client import Api, ConnectionLostError
from mailfleet.cli.files import unreadable
from mailfleet.cli.frame import CliError, UnreachableError

CHUNK_BYTES = 256 * 1024
TRIES = 5
_TYPES = {".ndjson": "application/x-ndjson", ".jsonl": "application/x-ndjson", ".json": "application/json"}


def upload_campaign(
    data: Path | None, campaign: Mapping[str, Any], recipients: Path, *, key: str
) -> tuple[int, dict[str, Any]]:
    """POST /v1/campaigns. Returns status (200, 202 or 422) and the JSON answer.

    A connection that breaks is tried again with the same idempotency ``key``, so the campaign cannot be made twice.
    """
    try:
        with recipients.open("rb") as file:
            size = recipients.stat().st_size
            return _with_progress(data, campaign, recipients, file, size, key)
    except OSError as error:
        raise unreadable(recipients, "--recipients", error) from None


def _with_progress(
    data: Path | None, campaign: Mapping[str, Any], path: Path, file: BinaryIO, size: int, key: str
) -> tuple[int, dict[str, Any]]:
    console = show.stderr()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(f"Uploading {show.clean(path.name)}", total=size)

        def body(head: bytes, tail: bytes) -> Iterator[bytes]:
            file.seek(0)
            bar.reset(task, total=size)
            yield head
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
                bar.advance(task, len(chunk))
            bar.update(task, description="Checking every row")
            yield tail

        boundary = f"mailfleet-{secrets.token_hex(16)}"
        head = multipart_head(boundary, campaign, path)
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Idempotency-Key": key,
        }
        if path.is_file():  # a pipe has no length: its body goes chunked
            headers["Content-Length"] = str(len(head) + size + len(tail))
        for tried in range(1, TRIES + 1):
            try:
                with Api.open(data) as api:
                    return api.send_body("/v1/campaigns", headers, lambda: body(head, tail))
            except UnreachableError as error:
                if tried == 1 and not isinstance(error, ConnectionLostError):
                    raise
                if tried == TRIES or not path.is_file():
                    raise UnreachableError(
                        f"the upload did not come through: {error.what}", mend="run the same command again"
                    ) from None
                show.say(
                    console, f"The upload was interrupted ({error.what}); trying again, try {tried + 1} of {TRIES}."
                )
                time.sleep(tried)
        raise AssertionError("the loop returns or raises")


def multipart_head(boundary: str, campaign: Mapping[str, Any], path: Path) -> bytes:
    """Everything before the first byte of the list (RFC 7578): the part ``campaign``, then the head of ``recipients``."""
    kind = _TYPES.get(path.suffix.lower(), "text/csv")
    filename = path.name.replace("\\", "_").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="campaign"\r\n'
        "Content-Type: application/json\r\n\r\n"
        f"{json.dumps(campaign, ensure_ascii=False)}\r\n"
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="recipients"; filename="{filename}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    ).encode()


def check_list(path: Path) -> None:
    """Find an unusable list before anything is sent. Raises ``CliError``."""
    try:
        with path.open("rb") as file:
            if path.is_file() and not file.read(1):
                raise CliError("the recipient list is empty", where=str(path), mend="give it a heading and rows")
    except OSError as error:
        raise unreadable(path, "--recipients", error) from None
