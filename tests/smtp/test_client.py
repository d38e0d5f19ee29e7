"""The client's state machine: what it says and what it makes of the answers. No socket, no clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.smtp.client import MAX_PIPELINED_CHUNK_BYTES, ClientSession
from mailfleet.smtp.client_states import Ended, Event, Finished, OnWire, Opened, OpenFailed, SessionState, TlsWanted
from mailfleet.smtp.transaction import Recipient, Transaction, TransactionResult

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"
FULL = ("PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN")


def said(session: ClientSession) -> bytes:
    return b"".join(session.take_output())


def ehlo_reply(*extensions: str) -> bytes:
    lines = ["mx.test", *extensions]
    return b"".join(
        f"250{' ' if index == len(lines) - 1 else '-'}{line}\r\n".encode() for index, line in enumerate(lines)
    )


def ready(*extensions: str, chunking: bool = True) -> ClientSession:
    session = ClientSession("me.test", tls="none", chunking=chunking, now_s=0)
    session.receive(b"220 mx.test\r\n", 0.001)
    assert said(session) == b"EHLO me.test\r\n"
    events = session.receive(ehlo_reply(*extensions), 0.002)
    assert [type(event) for event in events] == [Opened]
    return session


def transaction(*addresses: str, message: bytes = MESSAGE) -> Transaction:
    return Transaction("me@me.test", tuple(Recipient(address) for address in addresses or ("a@b.test",)), message)


def finished(events: list[Event]) -> TransactionResult:
    """The first result; that a message was sent is told before."""
    first = next(event for event in events if not isinstance(event, OnWire))
    assert isinstance(first, Finished)
    return first.result


def results(events: list[Event]) -> list[list[tuple[str, int | str]]]:
    return [summary(event.result) for event in events if isinstance(event, Finished)]


def summary(result: TransactionResult) -> list[tuple[str, int | str]]:
    return [(one.phase, one.reply.code if one.reply else one.failure) for one in result.recipients]


def run(session: ClientSession, what: Transaction, replies: bytes) -> list[Event]:
    assert session.start(what, 10.0) is None
    return session.receive(replies, 10.1)


# Opening


def test_ehlo_refused_falls_back_to_helo() -> None:
    session = ClientSession("me.test", tls="opportunistic", chunking=True, now_s=0)
    session.receive(b"220 old\r\n", 0)
    said(session)
    assert session.receive(b"502 what?\r\n", 0) == []
    assert said(session) == b"HELO me.test\r\n"
    assert [type(event) for event in session.receive(b"250 hello\r\n", 0)] == [Opened]
    assert not session.extensions.pipelining


@pytest.mark.parametrize(
    ("conversation", "phase", "code"),
    [
        ([b"554 go away\r\n"], "greeting", 554),
        ([b"421 busy\r\n"], "greeting", 421),
        ([b"220 hi\r\n", b"450 later\r\n"], "ehlo", 450),
        ([b"220 hi\r\n", b"500 no\r\n", b"550 no\r\n"], "ehlo", 550),
        ([b"220 hi\r\n", ehlo_reply("STARTTLS"), b"421 bye\r\n"], "tls", 421),
    ],
)
def test_an_opening_refused_names_phase_and_reply(conversation: list[bytes], phase: str, code: int) -> None:
    session = ClientSession("me.test", tls="opportunistic", chunking=True, now_s=0)
    events = [event for reply in conversation for event in session.receive(reply, 0)]
    assert isinstance(events[-1], OpenFailed)
    assert events[-1].phase == phase
    assert events[-1].reply is not None
    assert events[-1].reply.code == code
    assert session.state is SessionState.CLOSED


def test_a_connection_lost_while_opening_names_the_phase() -> None:
    session = ClientSession("me.test", tls="none", chunking=True, now_s=0)
    session.receive(b"220 hi\r\n", 0)
    (event,) = session.lose("connection-lost", "gone", 1)
    assert event == OpenFailed("ehlo", "connection-lost", None, "gone")


def test_starttls_forgets_what_was_learnt_in_the_clear() -> None:
    session = ClientSession("me.test", tls="opportunistic", chunking=True, now_s=0)
    session.receive(b"220 hi\r\n", 0)
    session.receive(ehlo_reply("STARTTLS", "CHUNKING"), 0)
    said(session)
    assert session.receive(b"220 go\r\n", 0) == [TlsWanted()]
    assert session.phase == "tls"
    session.tls_started("TLSv1.3 X", 0.5)
    assert said(session) == b"EHLO me.test\r\n"
    session.receive(ehlo_reply("STARTTLS", "DSN"), 1)
    assert said(session) == b""
    assert session.extensions.dsn
    assert not session.extensions.chunking
    assert "+500 * TLS TLSv1.3 X" in session.log.text()


@pytest.mark.parametrize("pieces", [[b"220 go\r\n250 injected\r\n"], [b"220 go\r\n", b"250 injected\r\n"]])
def test_clear_text_after_the_reply_to_starttls_is_an_attack(pieces: list[bytes]) -> None:
    session = ClientSession("me.test", tls="opportunistic", chunking=True, now_s=0)
    session.receive(b"220 hi\r\n", 0)
    session.receive(ehlo_reply("STARTTLS"), 0)
    events = [event for piece in pieces for event in session.receive(piece, 0)]
    assert isinstance(events[-1], OpenFailed)
    assert (events[-1].phase, events[-1].failure) == ("tls", "tls-handshake")


@pytest.mark.parametrize("tls", ["opportunistic", "required"])
def test_starttls_refused(tls: str) -> None:
    session = ClientSession("me.test", tls=tls, chunking=True, now_s=0)
    session.receive(b"220 hi\r\n", 0)
    session.receive(ehlo_reply("STARTTLS"), 0)
    (event,) = session.receive(b"454 not now\r\n", 0)
    assert isinstance(event, Opened if tls == "opportunistic" else OpenFailed)


def test_tls_required_but_not_offered() -> None:
    session = ClientSession("me.test", tls="required", chunking=True, now_s=0)
    session.receive(b"220 hi\r\n", 0)
    (event,) = session.receive(ehlo_reply("SIZE"), 0)
    assert isinstance(event, OpenFailed)
    assert (event.phase, event.failure) == ("tls", "tls-required")


# Transactions with pipelining


def test_the_envelope_goes_out_in_one_piece_and_the_message_after_354() -> None:
    session = ready(*FULL)
    session.start(transaction("a@b.test", "c@d.test"), 10.0)
    assert said(session) == b"MAIL FROM:<me@me.test> SIZE=21\r\nRCPT TO:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n"
    assert session.phase == "mail"
    assert session.receive(b"250 ok\r\n250 ok\r\n550 who?\r\n354 go\r\n", 10.1) == [OnWire()]
    assert said(session) == MESSAGE + b".\r\n"
    assert session.phase == "message"
    events = session.receive(b"250 2.0.0 queued\r\n", 10.2)
    assert summary(finished(events)) == [("message", 250), ("rcpt", 550)]
    assert session.state is SessionState.READY


def test_the_transcript_tells_it_all_but_the_message() -> None:
    result = finished(run(ready(*FULL), transaction(), b"250 ok\r\n250 ok\r\n354-go\r\n354 on\r\n250 2.0.0 queued\r\n"))
    assert result.transcript.splitlines() == [
        "+0 > MAIL FROM:<me@me.test> SIZE=21",
        "+0 > RCPT TO:<a@b.test>",
        "+0 > DATA",
        "+100 < 250 ok",
        "+100 < 250 ok",
        "+100 < 354-go",
        "+100 < 354 on",
        "+100 > (message, 21 bytes)",
        "+100 < 250 2.0.0 queued",
    ]


def test_a_long_transcript_keeps_its_beginning_and_its_end() -> None:
    names = [f"recipient-{number}@b.test" for number in range(300)]
    replies = b"250 ok\r\n" + b"250 ok\r\n" * 300 + b"354 go\r\n" + b"250 the last word\r\n"
    transcript = finished(run(ready(*FULL), transaction(*names), replies)).transcript
    assert len(transcript) <= 4096
    assert transcript.startswith("+0 > MAIL")
    assert transcript.endswith("250 the last word")
    assert "lines left out" in transcript


@pytest.mark.parametrize(
    ("replies", "expected", "after"),
    [
        # MAIL refused: its reply counts, not those to the commands after it
        (b"450 4.7.1 later\r\n503 no\r\n503 no\r\n503 no\r\n", [("mail", 450), ("mail", 450)], b""),
        # every RCPT refused, DATA too
        (b"250 ok\r\n550 no\r\n450 no\r\n554 none\r\n", [("rcpt", 550), ("rcpt", 450)], b""),
        # DATA refused
        (b"250 ok\r\n250 ok\r\n550 no\r\n451 disk\r\n", [("data", 451), ("rcpt", 550)], b""),
        # RFC 2920 3.1: 354 although every RCPT was refused
        (b"250 ok\r\n550 no\r\n550 no\r\n354 go\r\n554 none\r\n", [("rcpt", 550), ("rcpt", 550)], b".\r\n"),
        # the same, and the empty message is even taken: still nobody got anything
        (b"250 ok\r\n550 no\r\n550 no\r\n354 go\r\n250 thanks\r\n", [("rcpt", 550), ("rcpt", 550)], b".\r\n"),
        # MAIL refused but everything after it taken
        (b"550 no\r\n250 ok\r\n250 ok\r\n354 go\r\n250 thanks\r\n", [("mail", 550), ("mail", 550)], b".\r\n"),
        # the message refused
        (
            b"250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n554 spam\r\n",
            [("message", 554), ("rcpt", 550)],
            MESSAGE + b".\r\n",
        ),
    ],
)
def test_each_recipient_gets_the_reply_that_settles_it(
    replies: bytes, expected: list[tuple[str, int | str]], after: bytes
) -> None:
    session = ready(*FULL)
    session.start(transaction("a@b.test", "c@d.test"), 10.0)
    said(session)
    result = finished(session.receive(replies, 10.1))
    assert summary(result) == expected
    assert said(session) == after
    assert session.state is SessionState.READY
    assert not result.inconclusive


def test_after_a_transaction_that_failed_the_next_begins_with_rset() -> None:
    session = ready(*FULL)
    run(session, transaction(), b"250 ok\r\n550 no\r\n554 none\r\n")
    said(session)
    result = finished(run(session, transaction(), b"250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n250 done\r\n"))
    assert said(session).startswith(b"RSET\r\nMAIL FROM:")
    assert summary(result) == [("message", 250)]
    session.start(transaction(), 11)
    assert said(session).startswith(b"MAIL FROM:")


def test_421_at_any_point_ends_the_session_and_settles_the_rest() -> None:
    whole = b"250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n"
    expected = [
        (0, [("mail", 421), ("mail", 421)]),
        (1, [("rcpt", 421), ("rcpt", 421)]),
        (2, [("rcpt", 550), ("rcpt", 421)]),
        (3, [("rcpt", 550), ("data", 421)]),
        (4, [("rcpt", 550), ("message", 421)]),
    ]
    for count, results in expected:
        session = ready(*FULL)
        before = b"".join(line + b"\r\n" for line in whole.split(b"\r\n")[:count])
        events = run(session, transaction("a@b.test", "c@d.test"), before + b"421 4.3.2 shutting down\r\n")
        assert summary(finished(events)) == results
        assert isinstance(events[-1], Ended)
        assert session.state is SessionState.CLOSED


def test_421_between_transactions_ends_the_session() -> None:
    session = ready(*FULL)
    (event,) = session.receive(b"421 idle too long\r\n", 1)
    assert isinstance(event, Ended)
    refused = session.start(transaction(), 2)
    assert refused is not None
    assert refused.inconclusive
    assert summary(refused) == [("mail", "connection-lost")]


def test_a_connection_lost_settles_the_rest() -> None:
    session = ready(*FULL)
    run(session, transaction("a@b.test", "c@d.test"), b"250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n")
    result = finished(session.lose("connection-lost", "the remote closed the connection", 12))
    assert summary(result) == [("rcpt", 550), ("message", "connection-lost")]
    assert result.transcript.endswith("+2000 * the remote closed the connection")
    assert not result.inconclusive


def test_a_connection_lost_before_any_reply_is_told_apart() -> None:
    session = ready(*FULL)
    session.start(transaction(), 1)
    assert finished(session.lose("connection-lost", "gone", 2)).inconclusive


@pytest.mark.parametrize("nonsense", [b"354 go\r\n", b"hello?\r\n", b"250 ok\r\n354 go\r\n", b"250-" + b"x" * 70_000])
def test_nonsense_is_a_protocol_failure(nonsense: bytes) -> None:
    session = ready(*FULL)
    events = run(session, transaction(), nonsense)
    assert summary(finished(events))[0][1] == "protocol"
    assert session.state is SessionState.CLOSED


def test_a_reply_nobody_asked_for_ends_the_session() -> None:
    session = ready(*FULL)
    events = run(session, transaction(), b"250 ok\r\n250 ok\r\n354 go\r\n250 done\r\n250 and more\r\n")
    assert summary(finished(events)) == [("message", 250)]
    assert [type(event) for event in events] == [OnWire, Finished, Ended]


# Without pipelining


def test_without_pipelining_one_command_at_a_time() -> None:
    session = ready("SIZE")
    session.start(transaction("a@b.test", "c@d.test"), 10)
    spoken = [said(session)]
    for reply in (b"250 ok\r\n", b"550 no\r\n", b"250 ok\r\n", b"354 go\r\n"):
        assert session.receive(reply, 10) == ([OnWire()] if reply == b"354 go\r\n" else [])
        spoken.append(said(session))
    assert spoken == [
        b"MAIL FROM:<me@me.test> SIZE=21\r\n",
        b"RCPT TO:<a@b.test>\r\n",
        b"RCPT TO:<c@d.test>\r\n",
        b"DATA\r\n",
        MESSAGE + b".\r\n",
    ]
    assert summary(finished(session.receive(b"250 done\r\n", 10))) == [("rcpt", 550), ("message", 250)]


def test_without_pipelining_nothing_is_sent_for_nobody() -> None:
    session = ready()
    events = run(session, transaction(), b"250 ok\r\n550 no\r\n")
    assert summary(finished(events)) == [("rcpt", 550)]
    assert b"DATA" not in said(session)
    session.start(transaction(), 11)
    assert said(session) == b"RSET\r\n"
    session.receive(b"250 ok\r\n", 11)
    assert said(session) == b"MAIL FROM:<me@me.test>\r\n"


# A follower

ENVELOPE = b"MAIL FROM:<me@me.test> SIZE=21\r\nRCPT TO:<a@b.test>\r\nDATA\r\n"
TAKEN = b"250 ok\r\n250 ok\r\n354 go\r\n"


def two(session: ClientSession, first: bytes = TAKEN) -> bytes:
    """Start a transaction and one behind it, answer the commands of the first; what was said since the first message was due."""
    session.start(transaction(), 10)
    may = [session.can_follow]
    session.start(transaction(), 10)
    assert [*may, session.can_follow] == [True, False]
    assert said(session) == ENVELOPE
    assert session.receive(first, 10) == [OnWire()]
    return said(session)


def test_a_follower_goes_out_in_one_piece_with_the_message_before_it() -> None:
    session = ready(*FULL)
    assert two(session) == MESSAGE + b".\r\n" + ENVELOPE
    events = session.receive(b"250 first\r\n" + TAKEN, 11)
    assert [type(event) for event in events] == [Finished, OnWire]
    assert said(session) == MESSAGE + b".\r\n"
    events = session.receive(b"250 second\r\n", 12)
    assert finished(events).transcript.splitlines()[-1] == "+2000 < 250 second"
    assert session.state is SessionState.READY


def test_a_follower_may_come_while_the_message_is_on_its_way() -> None:
    session = ready(*FULL)
    run(session, transaction(), TAKEN)
    said(session)
    session.start(transaction(), 11)
    assert said(session) == ENVELOPE
    session.receive(b"250 first\r\n", 11)
    assert session.can_follow
    assert session.phase == "mail"


def test_a_follower_of_a_transaction_that_ends_early_begins_by_itself() -> None:
    session = ready(*FULL)
    session.start(transaction(), 10)
    session.start(transaction(), 10)
    said(session)
    events = session.receive(b"250 ok\r\n550 no\r\n554 nobody\r\n", 11)
    assert results(events) == [[("rcpt", 550)]]
    assert said(session) == b"RSET\r\n" + ENVELOPE


def test_a_follower_behind_a_refused_message_goes_on() -> None:
    session = ready(*FULL)
    two(session)
    events = session.receive(b"554 spam\r\n" + TAKEN + b"250 ok\r\n", 11)
    assert results(events) == [[("message", 554)], [("message", 250)]]


def test_a_host_that_stays_in_the_refused_transaction_says_nothing_of_the_follower() -> None:
    session = ready(*FULL)
    two(session)
    events = session.receive(b"554 spam\r\n503 nested MAIL\r\n503 no\r\n503 no\r\n", 11)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.result.inconclusive
    assert summary(last.result) == [("mail", 503)]
    session.start(transaction(), 12)
    assert said(session) == b"RSET\r\n" + ENVELOPE


def test_a_host_that_mixes_two_transactions_gets_no_message() -> None:
    session = ready(*FULL)
    two(session)
    events = session.receive(b"554 spam\r\n503 nested MAIL\r\n250 ok\r\n354 go\r\n", 11)
    assert said(session) == b""
    assert session.state is SessionState.CLOSED
    last = [event for event in events if isinstance(event, Finished)][-1]
    assert last.result.inconclusive


def test_503_of_its_own_is_an_answer() -> None:
    session = ready(*FULL)
    two(session)
    events = session.receive(b"250 ok\r\n503 log in first\r\n503 no\r\n503 no\r\n", 11)
    last = events[-1]
    assert isinstance(last, Finished)
    assert not last.result.inconclusive


@pytest.mark.parametrize("farewell", [b"", b"421 too many\r\n", b"250 ok\r\n421 enough\r\n"])
def test_a_connection_that_ends_says_nothing_of_the_follower(farewell: bytes) -> None:
    session = ready(*FULL)
    two(session)
    events = session.receive(farewell, 11) + session.lose("connection-lost", "gone", 12)
    first, second = [event.result for event in events if isinstance(event, Finished)]
    assert not first.inconclusive
    assert second.inconclusive or second.recipients[0].reply is not None


def test_no_follower_without_pipelining_nor_where_bdat_saves_the_same() -> None:
    for extensions in ((), (*FULL, "CHUNKING")):
        session = ready(*extensions)
        assert not session.can_follow
        session.start(transaction(), 10)
        assert not session.can_follow


# BDAT


def test_bdat_sends_the_whole_transaction_at_once() -> None:
    session = ready(*FULL, "CHUNKING")
    dotted = b"Subject: x\r\n\r\n.hello\r\n"
    session.start(transaction(message=dotted), 10)
    assert said(session) == (b"MAIL FROM:<me@me.test> SIZE=22\r\nRCPT TO:<a@b.test>\r\nBDAT 22 LAST\r\n" + dotted)
    assert summary(finished(session.receive(b"250 ok\r\n250 ok\r\n250 done\r\n", 10))) == [("message", 250)]


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (b"250 ok\r\n550 no\r\n554 none\r\n", [("rcpt", 550)]),
        (b"250 ok\r\n550 no\r\n250 fine\r\n", [("rcpt", 550)]),
        (b"451 no\r\n503 no\r\n503 no\r\n", [("mail", 451)]),
        (b"250 ok\r\n250 ok\r\n552 full\r\n", [("message", 552)]),
    ],
)
def test_bdat_that_reaches_nobody(replies: bytes, expected: list[tuple[str, int | str]]) -> None:
    session = ready(*FULL, "CHUNKING")
    assert summary(finished(run(session, transaction(), replies))) == expected
    assert session.state is SessionState.READY


def test_bdat_is_for_small_messages_and_can_be_switched_off() -> None:
    large = b"x" * MAX_PIPELINED_CHUNK_BYTES + b"\r\n"
    for session, message in (
        (ready("PIPELINING", "CHUNKING"), large),
        (ready("PIPELINING", "CHUNKING", chunking=False), MESSAGE),
        (ready("CHUNKING"), MESSAGE),
    ):
        session.start(transaction(message=message), 10)
        assert b"BDAT" not in said(session)


# What the remote cannot take


def test_what_a_remote_cannot_take_is_known_before_mail() -> None:
    recipient = (Recipient("a@b.test"),)
    for what, failure in (
        (Transaction("me@me.test", recipient, b"x" * 1001), "too-large"),
        (Transaction("me@me.test", recipient, MESSAGE, smtputf8=True), "needs-smtputf8"),
        (Transaction("me@me.test", recipient, MESSAGE, eightbit=True), "needs-8bitmime"),
        (Transaction("me@me.test", recipient, MESSAGE, requiretls=True), "requiretls"),
    ):
        session = ready("PIPELINING", "SIZE 1000")
        result = session.start(what, 10)
        assert result is not None
        assert summary(result) == [("mail", failure)]
        assert result.recipients[0].detail in result.transcript
        assert said(session) == b""
        assert session.state is SessionState.READY


def test_a_line_break_in_an_address_never_reaches_the_wire() -> None:
    session = ready(*FULL)
    with pytest.raises(AssertionError):
        session.start(transaction("a@b.test>\r\nRCPT TO:<evil@b.test"), 10)
    assert said(session) == b""


def test_quit() -> None:
    session = ready()
    session.quit(5)
    assert said(session) == b"QUIT\r\n"
    assert [type(event) for event in session.receive(b"221 bye\r\n", 5)] == [Ended]


# Laws

_scripts = st.lists(
    st.sampled_from([b"250 ok\r\n", b"250-a\r\n250 b\r\n", b"550 no\r\n", b"354 go\r\n", b"421 bye\r\n", b"xx\r\n"]),
    max_size=8,
).map(b"".join)


def outcome(chunks: list[bytes], extensions: tuple[str, ...]) -> tuple[object, ...]:
    session = ready(*extensions)
    session.start(transaction("a@b.test", "c@d.test"), 10)
    events = session.take_events() + [event for chunk in chunks for event in session.receive(chunk, 10)]
    shape = [summary(event.result) if isinstance(event, Finished) else event for event in events]
    return shape, said(session), session.state, session.phase


@given(_scripts, st.lists(st.integers(0, 200), max_size=6), st.sampled_from([(), FULL, (*FULL, "CHUNKING")]))
@settings(max_examples=200)
def test_any_split_of_what_the_remote_says_gives_the_same(
    script: bytes, cuts: list[int], extensions: tuple[str, ...]
) -> None:
    edges = sorted({0, len(script), *(cut % (len(script) + 1) for cut in cuts)})
    chunks = [script[start:end] for start, end in pairwise(edges)]
    assert outcome(chunks, extensions) == outcome([script], extensions)


@given(st.binary(max_size=300), st.sampled_from([(), FULL, (*FULL, "CHUNKING")]))
@settings(max_examples=200)
def test_garbage_settles_every_recipient_once(garbage: bytes, extensions: tuple[str, ...]) -> None:
    session = ready(*extensions)
    session.start(transaction("a@b.test", "c@d.test"), 10)
    events = session.receive(garbage, 10) + session.lose("connection-lost", "gone", 11)
    found = [event.result for event in events if isinstance(event, Finished)]
    assert len(found) == 1
    assert all((one.reply is None) != (one.failure == "") for one in found[0].recipients)


@given(_scripts)
@settings(max_examples=200)
def test_whatever_is_said_two_that_follow_each_other_end_once_each(script: bytes) -> None:
    session = ready(*FULL)
    session.start(transaction("a@b.test"), 10)
    session.start(transaction("c@d.test"), 10)
    events = session.receive(script, 10) + session.lose("connection-lost", "gone", 11)
    assert len([event for event in events if isinstance(event, Finished)]) == 2
