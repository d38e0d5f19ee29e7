"""The HTTP client of the command line: where the server is, what it answers, and what its refusals mean here."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from mailfleet.cli import show
from mailfleet.cli.frame import CliError, UnreachableError

BUSY_PATIENCE_S = 120.0
PAGE = 500  # items asked for at once, the most that listings give
SILENCE_S = 30.0  # a followed stream says something every few seconds
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


class ConnectionLostError(UnreachableError):
    """The server did not answer, or stopped in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server answers. ``source`` says in words where that was learnt; ``start`` how to bring a server up there."""

    url: str
    token: str
    source: str
    start: str


def find_connection(data: Path | None) -> Connection:
    """``--data`` first, then MAILFLEET_URL and MAILFLEET_TOKEN, then MAILFLEET_DATA, ``./mailfleet.toml``, ``./data``.

    Raises ``UnreachableError`` saying which file was looked for.
    """
    url = os.environ.get("MAILFLEET_URL", "")
    if data is None and url:
        token = os.environ.get("MAILFLEET_TOKEN", "")
        if not token:
            raise UnreachableError("MAILFLEET_URL is set but MAILFLEET_TOKEN is not", mend="set both, or give --data")
        return Connection(url.rstrip("/"), token, "MAILFLEET_URL", "start the server there, or correct MAILFLEET_URL")
    return _from_file(data_folder(data))


def data_folder(data: Path | None) -> Path:
    """The data folder meant: ``--data``, MAILFLEET_DATA, what ``./mailfleet.toml`` says, ``./data``. Raises ``ConfigError``."""
    if data is not None:
        return data
    if not os.environ.get("MAILFLEET_DATA") and not Path("mailfleet.toml").exists():
        return Path("data")
    from mailfleet.config.settings import load

    return load().data


def _from_file(folder: Path) -> Connection:
    path = folder / "connection.json"
    start = f"start it with: mailfleet serve --sandbox --data {folder}"
    try:
        told = json.loads(path.read_text("utf-8"))
        return Connection(str(told["http"]).rstrip("/"), str(told["token"]), str(path), start)
    except FileNotFoundError:
        raise UnreachableError(
            "there is no such file, so no server has been started on this data folder",
            where=str(path),
            mend=f"{start} -- or name its folder with --data, or set MAILFLEET_URL and MAILFLEET_TOKEN",
        ) from None
    except PermissionError:
        raise UnreachableError(
            "the file may not be read by this user", where=str(path), mend="run as the user that runs the server"
        ) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UnreachableError(
            f"the file does not say where the server is ({type(error).__name__})", where=str(path), mend=start
        ) from None


class Api:
    """Calls to one server. Use it as a context manager. Every call raises ``CliError`` when refused.

    A call that finds no server raises ``UnreachableError``; one told that the server is busy (429, 503) waits as long as it is
    told, ``BUSY_PATIENCE_S`` in all.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._http = httpx.Client(
            base_url=connection.url,
            timeout=_TIMEOUT,
            headers={"Authorization": f"Bearer {connection.token}"},
            trust_env=False,  # a proxy of the environment does not know the server on loopback
        )

    @classmethod
    def open(cls, data: Path | None) -> Api:
        """The server that ``find_connection`` finds."""
        return cls(find_connection(data))

    def __enter__(self) -> Api:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **params: object) -> Any:
        """The JSON answer to GET; parameters that are None or empty are left out."""
        return self._json("GET", path, params=_given(params))

    def post(self, path: str, body: object = None) -> Any:
        """The JSON answer to POST with a JSON body."""
        return self._json("POST", path, json=body if body is not None else {})

    def post_file(self, path: str, data: bytes) -> Any:
        """The JSON answer to POST with a file as its body."""
        return self._json("POST", path, content=data, headers={"Content-Type": "application/octet-stream"})

    def put(self, path: str, body: object) -> Any:
        """The JSON answer to PUT with a JSON body."""
        return self._json("PUT", path, json=body)

    def patch(self, path: str, body: object) -> Any:
        """The JSON answer to PATCH with a JSON body."""
        return self._json("PATCH", path, json=body)

    def delete(self, path: str, **params: object) -> Any:
        """The answer to DELETE, None when it has no body."""
        return self._json("DELETE", path, params=_given(params))

    def pages(
        self,
        path: str,
        params: Mapping[str, object] | None = None,
        *,
        limit: int | None = None,
        after: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Every item of a listing with cursors that matches ``params``, from the cursor ``after`` on, at most ``limit``."""
        seen = 0
        while True:
            size = PAGE if limit is None else min(PAGE, limit - seen)
            page = self.get(path, after=after, limit=size, **(params or {}))
            for item in page["items"]:
                yield item
                seen += 1
                if limit is not None and seen >= limit:
                    return
            after = page.get("next")
            if after is None:
                return

    def lines(self, path: str, **params: object) -> Iterator[dict[str, Any]]:
        """Objects of an NDJSON answer as they come. Raises ``ConnectionLostError`` when the stream breaks."""
        timeout = httpx.Timeout(SILENCE_S, connect=5.0)
        headers = {"Accept": "application/x-ndjson"}
        try:
            with self._http.stream("GET", path, params=_given(params), headers=headers, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    self._refuse(response)
                for line in response.iter_lines():
                    if line.strip():
                        yield json.loads(line)
        except httpx.TransportError as error:
            raise self._lost(error) from None

    def send_body(
        self, path: str, headers: Mapping[str, str], body: Callable[[], Iterator[bytes]]
    ) -> tuple[int, dict[str, Any]]:
        """POST a streamed body and return status and JSON, refusals of the content (422) included; ``body`` is called per try."""
        timeout = httpx.Timeout(60.0, connect=5.0, read=900.0)  # a million rows are checked before the answer

        def call() -> httpx.Response:
            return self._http.post(path, headers=dict(headers), content=body(), timeout=timeout)

        response = self._patient(call)
        if response.is_error and response.status_code != 422:
            self._refuse(response)
        return response.status_code, self._decoded(response)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self._patient(lambda: self._http.request(method, path, **options))
        if response.is_error:
            self._refuse(response)
        return self._decoded(response) if response.content else None

    def _patient(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        """The answer, after waiting out 429 and 503. Raises ``UnreachableError`` or ``ConnectionLostError``."""
        waited_s = 0.0
        while True:
            try:
                response = call()
            except httpx.ConnectError:
                raise self._unreachable() from None
            except httpx.TransportError as error:
                raise self._lost(error) from None
            if response.status_code not in (429, 503) or waited_s >= BUSY_PATIENCE_S:
                return response
            told = response.headers.get("Retry-After", "")
            delay_s = min(float(told) if told.isdigit() else 5.0, BUSY_PATIENCE_S - waited_s)
            show.say(show.stderr(), f"The server is busy ({problem_words(response)}); trying again in {delay_s:.0f} s.")
            time.sleep(delay_s)
            waited_s += max(delay_s, 0.1)

    def _unreachable(self) -> UnreachableError:
        return UnreachableError(
            f"no server answers at {self.connection.url} (taken from {self.connection.source})",
            mend=self.connection.start,
        )

    def _lost(self, error: httpx.TransportError) -> UnreachableError:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            return self._unreachable()
        return ConnectionLostError(
            f"the connection to {self.connection.url} broke ({type(error).__name__})", mend="run the same command again"
        )

    def _decoded(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            raise UnreachableError(
                f"what answers at {self.connection.url} does not speak the Mailfleet API (HTTP {response.status_code})",
                mend=f"correct {self.connection.source}",
            ) from None

    def _refuse(self, response: httpx.Response) -> None:
        told = problem_object(response)
        if response.status_code == 401:
            raise UnreachableError(
                f"the server at {self.connection.url} does not accept the token from {self.connection.source}",
                mend="use a token that was not removed; the sandbox writes a fresh connection.json when it starts",
            )
        raise refusal(told)


def problem_object(response: httpx.Response) -> dict[str, Any]:
    """The problem+json object of a refusal, or one made of its status line."""
    try:
        told = response.json()
        if isinstance(told, dict):
            return told
    except ValueError:
        pass
    return {"title": f"the server answered HTTP {response.status_code} {response.reason_phrase}"}


def problem_words(response: httpx.Response) -> str:
    """Title or detail of a refusal, for a notice."""
    told = problem_object(response)
    return str(told.get("detail") or told.get("title"))


def refusal(told: Mapping[str, Any]) -> CliError:
    """A problem+json object as the error that ends the command."""
    problems = told.get("problems") or []
    return CliError(
        str(told.get("detail") or told.get("title") or "the server refused it"),
        where=str(told.get("where") or ""),
        mend=str(told.get("mend") or ""),
        problems=problems,
        problem_count=int(told.get("problem_count") or len(problems)),
    )


def path_of(*parts: str) -> str:
    """``path_of("campaigns", "cmp_1")`` -> ``/v1/campaigns/cmp_1``, each part quoted."""
    return "/v1/" + "/".join(quote(part, safe="@") for part in parts)


def _given(params: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value not in (None, "", [])}
