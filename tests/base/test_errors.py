"""Errors say what, where and how to mend it, in one line."""

from __future__ import annotations

import pytest

from mailfleet.base.errors import (
    BusyError,
    ConfigError,
    ConflictError,
    InputError,
    MailfleetError,
    NotFoundError,
    Problem,
)


@pytest.mark.parametrize(
    ("where", "mend", "line"),
    [
        ("", "", "it is wrong"),
        ("line 3", "", "line 3: it is wrong"),
        ("", "do this", "it is wrong (do this)"),
        ("line 3", "do this", "line 3: it is wrong (do this)"),
    ],
)
@pytest.mark.parametrize("kind", [InputError, NotFoundError, ConflictError, ConfigError])
def test_the_parts_of_an_error(kind: type[InputError], where: str, mend: str, line: str) -> None:
    error = kind("it is wrong", where=where, mend=mend)
    assert (error.what, error.where, error.mend) == ("it is wrong", where, mend)
    assert str(error) == line
    assert isinstance(error, InputError)
    assert isinstance(error, MailfleetError)


def test_busy_is_no_fault_of_the_input() -> None:
    error = BusyError("the disk is full", retry_after_s=60)
    assert not isinstance(error, InputError)
    assert (str(error), error.reason, error.retry_after_s) == ("the disk is full", "the disk is full", 60)


def test_a_problem_is_a_value() -> None:
    assert Problem(3, "bad-address", "no @") == Problem(3, "bad-address", "no @", "", "", "")
