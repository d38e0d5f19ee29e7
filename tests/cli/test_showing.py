"""What is printed cannot steer a terminal, and numbers read well."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mailfleet.cli import show


@given(st.text())
def test_cleaned_text_has_no_character_that_steers_a_terminal(text: str) -> None:
    cleaned = show.clean(text)
    assert not any(
        (ord(letter) < 32 and letter not in "\t\n") or 0x7F <= ord(letter) <= 0x9F or 0x202A <= ord(letter) <= 0x202E
        for letter in cleaned
    )


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cf", "Cs"])))
def test_cleaning_leaves_every_script_alone(text: str) -> None:
    assert show.clean(text) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7440, "2 h 4 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert show.duration(seconds) == words


def test_piped_tables_are_aligned_and_never_cut() -> None:
    out = io.StringIO()
    rows = [("a" * 200, 5, None), ("b", 1234, "x\ny")]
    show.table(Console(file=out, width=40), ("name", "count", "why"), rows, right=("count",))
    lines = out.getvalue().splitlines()
    assert lines[1] == "a" * 200 + "      5"
    assert lines[2] == "b" + " " * 199 + "   1234  x y"


def test_the_true_number_of_problems_is_told() -> None:
    out = io.StringIO()
    problem = {"line": 2, "code": "c", "what": "wrong", "mend": "", "field": "", "value": ""}
    show.problem_table(Console(file=out), [problem], 12_000)
    assert "... and 11,999 more" in out.getvalue()
