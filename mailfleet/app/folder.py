"""The data folder: where everything lies in it, and to whom it belongs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from mailfleet.base.durable import sync_folder, write_durably
from mailfleet.base.errors import ConfigError
from mailfleet.store.database import Place


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths inside ``--data``."""

    root: Path

    @property
    def database(self) -> Path:
        """The embedded database."""
        return self.root / "mailfleet.db"

    @property
    def moved(self) -> Path:
        """Says where the embedded database was moved to; there only if it was."""
        return self.root / "mailfleet.db.moved"

    def place(self, url: str) -> Place:
        """The database that the settings mean. Raises ``ConfigError`` where the start would look past what is stored already."""
        if url and self.database.exists():
            raise ConfigError(
                f"database.url is set, and what was stored so far is in {self.database}",
                where="database.url",
                mend="take it along with: mailfleet db move --to URL, or leave the setting out",
            )
        if not url and self.moved.exists():
            raise ConfigError(
                f"the database of this folder was moved to {self.moved.read_text().strip()}",
                where="database.url",
                mend="set it, with the password; or, to go on with the file as it was then, rename it back and remove "
                + str(self.moved),
            )
        return url or self.database

    @property
    def master_key(self) -> Path:
        """What opens the keys at rest; keep a copy apart from the backups."""
        return self.root / "master.key"

    @property
    def run(self) -> Path:
        """Locks, process ids and outcome journals."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log a role."""
        return self.root / "log"

    @property
    def tls(self) -> Path:
        """The self-signed certificate."""
        return self.root / "tls"

    @property
    def connection(self) -> Path:
        """How a client on this machine gets in."""
        return self.root / "connection.json"

    def prepare(self, *, sandbox: bool) -> None:
        """Make the folders and settle whether this is a sandbox, for good.

        Raises ``ConfigError`` when a sandbox folder is to be served for real or the other way round: the queue of a
        sandbox must never reach real providers, nor real mail be swallowed by simulated ones.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
            for folder in (self.run, self.logs):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot be written: {error}", where=str(self.root), mend="choose another --data folder"
            ) from None
        mark = self.root / "kind"
        kind = "sandbox" if sandbox else "live"
        if not mark.exists():
            write_durably(mark, f"{kind}\n".encode(), 0o644)
            sync_folder(self.root.parent)
        found = mark.read_text().strip()
        if found != kind:
            mend = (
                "add --sandbox, or give another --data"
                if found == "sandbox"
                else "leave out --sandbox, or give another --data"
            )
            raise ConfigError(f"this data folder is {found}, not {kind}", where=str(self.root), mend=mend)

    @contextlib.contextmanager
    def held(self, *, wait_s: float = 10) -> Iterator[int]:
        """One server a folder: hold its lock; yields the descriptor, which children must close. Raises ``ConfigError``."""
        descriptor = os.open(self.run / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600)
        until_s = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until_s:
                    os.close(descriptor)
                    raise ConfigError(
                        "another mailfleet serve is running here",
                        where=str(self.root),
                        mend="stop it first, or give another --data",
                    ) from None
                time.sleep(0.1)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def write_connection(self, values: dict[str, str]) -> None:
        """Replace ``connection.json`` in one step, readable by its owner only."""
        write_durably(self.connection, orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n", 0o600)

    def read_connection(self) -> dict[str, str]:
        """What ``connection.json`` says; empty when there is none that can be read."""
        try:
            return dict(orjson.loads(self.connection.read_bytes()))
        except (OSError, orjson.JSONDecodeError):
            return {}
