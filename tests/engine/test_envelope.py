"""The stored form of an envelope holds what differs from the default and is read back as it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailfleet.engine.envelope import DEFAULT, Envelope

NOTIFY = st.none() | st.frozensets(st.sampled_from(["SUCCESS", "FAILURE", "DELAY"])) | st.just(frozenset({"NEVER"}))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ENVELOPES = st.builds(
    Envelope,
    reverse_path=st.none() | TEXT,
    submitted=st.booleans(),
    notify=NOTIFY,
    orcpt=TEXT,
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    envid=TEXT,
    smtputf8=st.booleans(),
    delay_told=st.booleans(),
    tls=st.sampled_from(["", "require", "any"]),
)


@given(ENVELOPES)
def test_what_was_stored_is_read_back(envelope: Envelope) -> None:
    assert Envelope.load(envelope.dump()) == envelope
    assert Envelope.manner_of(envelope.dump()) == envelope.tls


def test_the_default_takes_no_room() -> None:
    assert DEFAULT.dump() is None
    assert Envelope.load(None) == Envelope.load("") == DEFAULT
    assert Envelope(reverse_path="").dump() == '{"reverse_path":""}', "the null reverse-path is no default"
    assert Envelope(notify=frozenset()).dump() == '{"notify":[]}'


def test_the_delay_is_noted_and_nothing_else() -> None:
    envelope = Envelope("a@b.example", True, frozenset({"DELAY"}), "rfc822;x", "HDRS", "id")
    noted = envelope.after_delay_dsn()
    assert noted.delay_told
    assert not envelope.delay_told
    assert Envelope.load(noted.dump()) == noted


def test_nobody_can_write_the_manner_into_another_field() -> None:
    assert Envelope.manner_of(Envelope(envid='"tls":"any"', reverse_path='"tls":"require"@b.test').dump()) == ""
