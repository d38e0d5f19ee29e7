"""The kinds of wrong that callers are meant to handle. A bug is none of these: it asserts and crashes its task."""

from __future__ import annotations

from dataclasses import dataclass


class MailfleetError(Exception):
    """Base of every error that Mailfleet raises on purpose."""


class InputError(MailfleetError):
    """Input that cannot be accepted as it is.

    ``what`` says what is wrong, in one sentence; ``mend`` says what to do about it; ``where`` names the line, field or
    record (empty when the whole input is meant). The three are shown to people as they are, so no secret goes in.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what = what
        self.where = where
        self.mend = mend
        super().__init__(": ".join(part for part in (where, what) if part) + (f" ({mend})" if mend else ""))


class NotFoundError(InputError):
    """The named record does not exist (or belongs to another tenant, which is the same thing to the caller)."""


class ConflictError(InputError):
    """The record exists already, or its state does not allow the move that was asked for."""


class BusyError(MailfleetError):
    """A bound is reached: the caller may try the same again after ``retry_after_s`` seconds. Never a permanent error."""

    def __init__(self, reason: str, *, retry_after_s: int = 30) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class CommitUnknownError(BusyError):
    """The connection to the database was lost while it committed: all of it is kept, or nothing.

    Whoever gets this may not assume either. Trying the same again must be harmless, or has to look first what is there.
    """


class ConfigError(InputError):
    """A setting that cannot work; ``where`` names it as it stands in ``mailfleet.toml``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one record of a larger input, gathered rather than raised.

    ``line`` is 1-based and counts physical lines of the input, or records where the input has no lines; 0 means the
    input as a whole. ``field`` is the column or JSON field, empty when the record as a whole is meant.
    """

    line: int
    code: str
    what: str
    mend: str = ""
    field: str = ""
    value: str = ""
