"""Reading a pasted reply, and what is printed about it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.config.bounce_rules import load_rules
from mailfleet.policy.classify import Classifier
from mailfleet.policy.explain import explain_line, parse_line, parse_reply
from mailfleet.smtp.reply import Reply

CLASSIFIER = Classifier(load_rules())


@pytest.mark.parametrize(
    ("line", "provider", "code", "lines"),
    [
        ("550 5.1.1 User unknown", None, 550, ("5.1.1 User unknown",)),
        ("gmail\t550 5.1.1 User unknown", "gmail", 550, ("5.1.1 User unknown",)),
        ("Gmail \t 550 5.1.1 User unknown\r\n", "gmail", 550, ("5.1.1 User unknown",)),
        ("\t550 no provider", None, 550, ("no provider",)),
        ("550 tab\there", None, 550, ("tab\there",)),
        (r"550-5.1.1 The account\n550 5.1.1 does not exist", None, 550, ("5.1.1 The account", "5.1.1 does not exist")),
        (r"550-5.1.1 The account\r\n550 5.1.1 ends\r\n", None, 550, ("5.1.1 The account", "5.1.1 ends")),
        ("550-5.1.1 one 550-5.1.1 two 550 5.1.1 three", None, 550, ("5.1.1 one", "5.1.1 two", "5.1.1 three")),
        ("550-5.1.1 alone", None, 550, ("5.1.1 alone",)),
        ("550 room 550 is full", None, 550, ("room 550 is full",)),
        ("421", None, 421, ("",)),
        ("250 2.0.0 OK", None, 250, ("2.0.0 OK",)),
        ("smtp; 550 5.1.1 User unknown", None, 550, ("5.1.1 User unknown",)),
        ("550 first\\nsecond without a code", None, 550, ("first", "second without a code")),
    ],
)
def test_the_forms_in_which_people_paste_a_reply(
    line: str, provider: str | None, code: int, lines: tuple[str, ...]
) -> None:
    assert parse_line(line) == (provider, Reply(code, lines))


@pytest.mark.parametrize(
    "line", ["hello", "5.1.1 User unknown", "5501 x", "99 x", "700 x", "55", "gmail\thello", "", "-"]
)
def test_garbage_is_refused_naming_the_line(line: str) -> None:
    with pytest.raises(InputError, match="line 7"):
        parse_line(line, 7)


def test_a_provider_that_is_no_word_is_refused() -> None:
    with pytest.raises(InputError, match=r"line 2.*provider"):
        parse_line("what is this?\t550 5.1.1 User unknown", 2)


def test_what_is_printed() -> None:
    assert explain_line(CLASSIFIER, "gmail\t550-5.1.1 The email account that you tried to reach does not exist.") == {
        "class": "unknown-user",
        "verdict": "bounce",
        "fault": "recipient",
        "suppress": True,
        "rule": "gmail-unknown-user",
        "provider": "gmail",
        "reply": "550 5.1.1 The email account that you tried to reach does not exist.",
    }
    assert explain_line(CLASSIFIER, "250 2.0.0 Ok: queued as 12345")["verdict"] == "deliver"
    assert explain_line(CLASSIFIER, "451 4.7.1 Greylisted")["verdict"] == "defer"


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_any_line_is_explained_or_refused(line: str) -> None:
    explained: dict[str, object] = {}
    with contextlib.suppress(InputError):
        explained = explain_line(CLASSIFIER, line, 1)
    assert explained.get("verdict") in (None, "deliver", "defer", "bounce")


@settings(max_examples=100)
@given(
    st.integers(200, 599),
    st.lists(
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\;"), min_size=1),
        min_size=1,
        max_size=4,
    ),
)
def test_the_wire_form_is_read_back(code: int, lines: list[str]) -> None:
    reply = Reply(code, tuple(lines))
    assert parse_reply(reply.encode().decode()) == reply
