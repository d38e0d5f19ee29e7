"""One connection to a PostgreSQL server, driven from one thread by an event loop of its own, so that a transaction is plain code.

Errors are sorted here: what is the statement's own goes through as it is; everything that is the server's or the network's
becomes ``BusyError``, and what may be tried again from the start ``AgainError``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import uvloop

from mailfleet.base.errors import BusyError, ConfigError
from mailfleet.base.redact import without_passwords

T = TypeVar("T")
CONNECT_WITHIN_S = 10.0
ANSWER_WITHIN_S = 120.0  # a server that is silent for longer is taken for lost
FIRST_WAIT_S, MAX_WAIT_S = 0.1, 5.0

_SETTINGS = {
    "application_name": "mailfleet",
    "timezone": "UTC",
    "jit": "off",  # statements here are short; compiling one costs more than running it
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "120s",
    # So that the server soon lets go of the locks of a machine that is gone.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
# The tables of a queue change faster than their statistics: a plan that walks one is never right where an index serves.
WRITER_SETTINGS = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}

_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver met the end of the connection in a moment that it did not expect
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    OSError,
    TimeoutError,
    EOFError,
)
_BUSY = (
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.InternalServerError,
)
_WRONG = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ClientConfigurationError,
)


class AgainError(Exception):
    """Two transactions stood in each other's way and this one was chosen to go: it may be run again from its start."""


class ServerBusyError(BusyError):
    """The server cannot take it now: the fault of nobody who asked."""


class LostError(ServerBusyError):
    """The connection is gone."""


class Session:
    """A connection that is opened when it is first needed, and again after it was lost. Used by one thread."""

    def __init__(self, url: str, settings: dict[str, str] | None = None) -> None:
        self._url, self._settings = url, settings or {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Any = None
        self.generation = 0  # counts connections: what belonged to one is gone with it
        self._wait_s = 0.0
        self._not_before_s = 0.0
        self._reason = ""

    @property
    def opened(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and not self._connection.is_closed()

    def open(self) -> None:
        """Connect if there is no connection. Raises ``BusyError``; after a failure it waits longer each time before it tries again."""
        if self.opened:
            return
        self.drop()
        if time.monotonic() < self._not_before_s:
            raise LostError(self._reason, retry_after_s=5)
        self._loop = self._loop or uvloop.new_event_loop()
        try:
            self._connection = self._loop.run_until_complete(connect(self._url, self._settings))
        except ConfigError as error:
            self._failed(str(error))
            raise LostError(self._reason, retry_after_s=30) from None
        except Exception as error:
            self._failed(f"the database server cannot be reached: {words(error)}")
            raise LostError(self._reason, retry_after_s=5) from None
        self._wait_s = 0.0
        self.generation += 1

    def _failed(self, reason: str) -> None:
        self._wait_s = min(MAX_WAIT_S, self._wait_s * 2 or FIRST_WAIT_S)
        self._not_before_s = time.monotonic() + self._wait_s
        self._reason = reason

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one exchange with the server to its end."""
        assert self._loop is not None
        try:
            return self._loop.run_until_complete(work)
        except _AGAIN as error:
            raise AgainError(words(error)) from None
        except _LOST as error:
            if isinstance(error, asyncpg.InterfaceError) and self.opened and "another operation" not in str(error):
                raise  # wrong parameters: the statement's own
            self.drop()
            raise LostError(
                f"the connection to the database server was lost: {words(error)}", retry_after_s=5
            ) from None
        except _BUSY as error:
            raise ServerBusyError(f"the database server cannot take it: {words(error)}") from None

    def execute(self, text: str) -> str:
        """Statements without parameters, in one exchange; what the last of them says was done."""
        return str(self.wait(self._connection.execute(text)))

    @property
    def connection(self) -> Any:
        """The driver's connection."""
        return self._connection

    def drop(self) -> None:
        """Forget the connection, whatever state it is in."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.terminate()
            self._connection = None

    def close(self) -> None:
        """End it in good order."""
        if self._loop is None:
            return
        if self.opened:
            with contextlib.suppress(Exception):
                self._loop.run_until_complete(self._connection.close(timeout=2))
        self.drop()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self._loop = None


async def connect(url: str, settings: dict[str, str] | None = None) -> Any:
    """A connection on the running loop. Raises ``ConfigError`` where a person has to mend something, without the password."""
    try:
        connection = await asyncpg.connect(
            url,
            timeout=CONNECT_WITHIN_S,
            command_timeout=ANSWER_WITHIN_S,
            statement_cache_size=1000,
            max_cached_statement_lifetime=0,
            server_settings=_SETTINGS | (settings or {}),
        )
    except _WRONG as error:
        raise _config_error(url, words(error)) from None
    except ValueError as error:
        raise _config_error(url, words(error)) from None
    try:
        rows = await connection.fetch(
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'server_version_num')"
        )
    except BaseException:
        connection.terminate()
        raise
    found = {row["name"]: row["setting"] for row in rows}
    if int(found["server_version_num"]) < 140_000:
        await connection.close()
        raise _config_error(url, f"PostgreSQL 14 or newer is needed, this is {found['server_version_num']}")
    if found["fsync"] == "off":
        await connection.close()
        raise ConfigError(
            "the server runs with fsync off: what it calls committed can be lost with the power",
            where="database.url",
            mend="set fsync = on in postgresql.conf and restart PostgreSQL",
        )
    if found["synchronous_commit"] == "off":
        await connection.execute("SET synchronous_commit = on")
    return connection


def shown(url: str) -> str:
    """The URL as it may be shown: without password."""
    parts = urlsplit(url)
    user = f"{unquote(parts.username)}@" if parts.username else ""
    host = parts.hostname or (parse_qs(parts.query).get("host") or ["localhost"])[0]
    return f"{parts.scheme}://{user}{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def words(error: BaseException) -> str:
    """What an error says, in one line."""
    return without_passwords(" ".join(str(error).split())) or type(error).__name__


def _config_error(url: str, what: str) -> ConfigError:
    return ConfigError(
        f"{shown(url)}: {what}",
        where="database.url",
        mend="write it as postgresql://USER:PASSWORD@HOST:5432/DATABASE, and make user and database as docs/guides/postgresql.md says",
    )
