"""What the server says to each command in each state."""

from __future__ import annotations

import base64

import pytest

from mailfleet.smtp.message_reader import VIOLATION
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.server import MAX_UNSENT_BYTES, ServerSession
from mailfleet.smtp.server_states import MessageReceived, SenderGiven, TlsAsked
from tests.smtp.server_dialogue import LOGIN, config, dialogue


def b64(text: bytes) -> bytes:
    return base64.b64encode(text)


GREETED: list[bytes] = []
READY = [b"EHLO c.example\r\n", LOGIN]
MAIL = [*READY, b"MAIL FROM:<a@shop.example>\r\n"]
RCPT = [*MAIL, b"RCPT TO:<b@example.org>\r\n"]
CHUNKS = [*RCPT, b"BDAT 3\r\nabc"]

# (what was said before, command, start of the last line of the reply)
TABLE = [
    (GREETED, b"MAIL FROM:<a@b.example>", b"503 5.5.1"),
    (GREETED, b"AUTH PLAIN", b"503 5.5.1 Send EHLO first"),
    (GREETED, b"STARTTLS", b"503 5.5.1"),
    (GREETED, b"NOOP", b"250 2.0.0"),
    (GREETED, b"RSET", b"250 2.0.0"),
    (GREETED, b"HELP", b"214 2.0.0"),
    (GREETED, b"QUIT", b"221 2.0.0"),
    (GREETED, b"EHLO", b"501 5.5.4"),
    (GREETED, b"EHLO two words", b"501 5.5.4"),
    (GREETED, b"EHLO [IPv6:::1]", b"250 "),
    (GREETED, b"helo desktop_7", b"250 mx.example"),
    (READY, b"noop whatever", b"250 2.0.0"),
    (READY, b"NOOP   ", b"250 2.0.0"),
    (READY, b"VRFY ann", b"252 2."),
    (READY, b"VRFY", b"501 5.5.4"),
    (READY, b"EXPN list", b"502 5.5.1"),
    (READY, b"TURN", b"500 5.5.1"),
    (READY, b"", b"500 5.5.2"),
    (READY, b" NOOP", b"500 5.5.2"),
    (READY, b"NOOP\tx", b"500 5.5.2"),
    (READY, b"NOOP \0", b"500 5.5.2"),
    (READY, b"NOOP \xff", b"500 5.5.2"),
    (READY, b"NOOP " + b"x" * 600, b"500 5.5.2"),
    (READY, b"GET / HTTP/1.1", b"554 5.5.1"),
    (READY, LOGIN[:-2], b"503 5.5.1"),
    (READY, b"RCPT TO:<b@example.org>", b"503 5.5.1"),
    (READY, b"DATA", b"503 5.5.1"),
    (READY, b"BDAT 2 LAST\r\nxx", b"503 5.5.1"),
    (READY, b"BDAT 0 LAST", b"503 5.5.1"),
    (READY, b"BDAT x", b"501 5.5.4"),
    (READY, b"MAIL FROM:<refused@b.example>", b"553 5.7.1"),
    (READY, b"MAIL FROM:<a@b.example> SIZE=100001", b"552 5.3.4"),
    (READY, b"MAIL FROM:<a@b.example> BODY=BINARYMIME", b"555 5.5.4"),
    (READY, "MAIL FROM:<jürgen@b.example>".encode(), b"553 5.6.7"),
    (READY, "MAIL FROM:<jürgen@b.example> SMTPUTF8".encode(), b"250 2.1.0"),
    (READY, b"MAIL FROM:<a@b.example> REQUIRETLS", b"530 5.7.10"),
    (READY, b"MAIL FROM:<a@b.example> REQUIRETLS=yes", b"501 5.5.4"),
    (MAIL, b"MAIL FROM:<a@b.example>", b"503 5.5.1"),
    (MAIL, b"DATA", b"554 5.5.1"),
    (MAIL, b"BDAT 2 LAST\r\nxx", b"554 5.5.1"),
    (MAIL, b"STARTTLS", b"503 5.5.1"),
    (MAIL, b"RCPT TO:<refused@example.org>", b"550 5.1.1"),
    (MAIL, b"RCPT TO:<>", b"501 5.1.3"),
    (MAIL, "RCPT TO:<jürgen@b.example>".encode(), b"553 5.6.7"),
    (MAIL, b"RSET x", b"501 5.5.4"),
    (RCPT, b"DATA x", b"501 5.5.4"),
    (RCPT, b"DATA", b"354 End"),
    (RCPT, b"MAIL FROM:<a@b.example>", b"503 5.5.1"),
    (RCPT, b"EHLO again.example", b"250 "),
    (CHUNKS, b"DATA", b"503 5.5.1"),
    (CHUNKS, b"RCPT TO:<c@example.org>", b"503 5.5.1"),
    (CHUNKS, b"RSET", b"250 2.0.0"),
    (RCPT, b"BDAT 0 LAST", b"250 2.0.0 Ok: queued as 0"),
    (CHUNKS, b"BDAT 0 LAST", b"250 2.0.0 Ok: queued as 5"),
    (CHUNKS, b"BDAT 2 LAST\r\n\r\n", b"250 2.0.0 Ok: queued as 5"),
]


@pytest.mark.parametrize(("before", "command", "reply"), TABLE)
def test_each_command_in_each_state(before: list[bytes], command: bytes, reply: bytes) -> None:
    talk = dialogue()
    for line in before:
        talk.send(line)
    ends_itself = command.startswith(b"BDAT") and b"\r\n" in command
    said = talk.send(command if ends_itself else command + b"\r\n")
    assert said.rstrip().split(b"\r\n")[-1].startswith(reply), said
    assert len(said.rstrip().split(b"\r\n")) == 1 or command.upper().startswith(b"EHLO")


def test_the_greeting_and_the_extensions() -> None:
    session = ServerSession(config(auth_without_tls=False))
    assert session.bytes_to_send() == b"220 mx.example ESMTP Mailfleet\r\n"
    session.receive(b"EHLO c.example\r\n")
    keywords = [line[4:] for line in session.bytes_to_send().decode().split("\r\n")[1:-1]]
    wanted = ["PIPELINING", "SIZE 100000", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS"]
    assert keywords == wanted


def test_under_tls_auth_is_offered_and_starttls_is_not() -> None:
    talk = dialogue(tls="TLSv1.3 X", auth_without_tls=False)
    said = talk.send(b"EHLO c.example\r\n")
    assert b"AUTH PLAIN LOGIN" in said
    assert b"STARTTLS" not in said
    assert talk.send(b"STARTTLS\r\n").startswith(b"503 5.5.1")


def test_a_login_in_the_clear_is_refused_before_the_password_is_asked() -> None:
    talk = dialogue(auth_without_tls=False)
    talk.send(b"EHLO c.example\r\n")
    assert talk.send(LOGIN).startswith(b"538 5.7.11")
    assert talk.send(b"MAIL FROM:<a@b.example>\r\n").startswith(b"530 5.7.0 Send STARTTLS")
    assert not talk.events


def test_mail_needs_a_login() -> None:
    talk = dialogue()
    talk.send(b"EHLO c.example\r\n")
    assert talk.send(b"MAIL FROM:<a@b.example>\r\n").startswith(b"530 5.7.0 Log in")


@pytest.mark.parametrize(
    ("lines", "replies"),
    [
        ([LOGIN], [b"235 2.7.0"]),
        ([b"AUTH plain\r\n", b64(b"ann\0ann\0secret") + b"\r\n"], [b"334 \r\n", b"235 2.7.0"]),
        (
            [b"AUTH LOGIN\r\n", b64(b"ann") + b"\r\n", b64(b"secret") + b"\r\n"],
            [b"334 VXNlcm5hbWU6", b"334 UGFz", b"235"],
        ),
        ([b"AUTH LOGIN " + b64(b"ann") + b"\r\n", b64(b"secret") + b"\r\n"], [b"334 UGFz", b"235"]),
        ([b"AUTH LOGIN =\r\n", b64(b"secret") + b"\r\n"], [b"334 UGFz", b"535 5.7.8"]),
        ([b"AUTH PLAIN =\r\n"], [b"501 5.5.2"]),
        ([b"AUTH PLAIN\r\n", b"*\r\n", b"NOOP\r\n"], [b"334 ", b"501 5.7.0", b"250"]),
        ([b"AUTH PLAIN\r\n", b"!!\r\n", b"NOOP\r\n"], [b"334 ", b"501 5.5.2", b"250"]),
        ([b"AUTH PLAIN " + b64(b"no nul") + b"\r\n"], [b"501 5.5.2"]),
        ([b"AUTH PLAIN " + b64(b"\0\xff\0x") + b"\r\n"], [b"501 5.5.2"]),
        ([b"AUTH PLAIN " + b64(b"root\0ann\0secret") + b"\r\n"], [b"535 5.7.8"]),
        ([b"AUTH PLAIN " + b64(b"\0ann\0guess") + b"\r\n"], [b"535 5.7.8"]),
        ([b"AUTH CRAM-MD5\r\n"], [b"504 5.5.4"]),
        ([b"AUTH\r\n"], [b"504 5.5.4"]),
        ([b"AUTH PLAIN " + b"A" * 8000 + b"\r\n"], [b"501 5.5.2"]),
    ],
)
def test_auth_exchanges(lines: list[bytes], replies: list[bytes]) -> None:
    talk = dialogue()
    talk.send(b"EHLO c.example\r\n")
    for line, reply in zip(lines, replies, strict=True):
        assert talk.send(line).startswith(reply)


def test_the_third_wrong_password_closes() -> None:
    talk = dialogue()
    wrong = b"AUTH PLAIN " + b64(b"\0ann\0guess") + b"\r\n"
    talk.send(b"EHLO c.example\r\n")
    assert [talk.send(wrong)[:9] for _ in range(3)] == [b"535 5.7.8", b"535 5.7.8", b"421 4.7.0"]
    assert talk.session.closing
    assert talk.send(LOGIN) == b""


def test_too_many_errors_close() -> None:
    talk = dialogue(max_errors=3)
    assert [talk.send(b"HUH\r\n")[:9] for _ in range(3)] == [b"500 5.5.1", b"500 5.5.1", b"421 4.7.0"]
    assert talk.session.closing


def test_recipients_refused_by_the_backend_are_no_errors() -> None:
    talk = dialogue(max_errors=3).login()
    talk.send(b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<refused@example.org>\r\n" * 10)
    assert talk.codes[-10:] == [550] * 10
    assert not talk.session.closing


def test_one_recipient_more_than_the_limit_is_refused_for_now() -> None:
    talk = dialogue(max_recipients=2).login()
    talk.send(b"MAIL FROM:<a@b.example>\r\n")
    said = talk.send(b"".join(b"RCPT TO:<r%d@example.org>\r\n" % n for n in range(3)))
    assert [line[:9] for line in said.split(b"\r\n")] == [b"250 2.1.5", b"250 2.1.5", b"452 4.5.3", b""]
    talk.send(b"DATA\r\nx\r\n.\r\n")
    assert [r.forward_path for r in talk.messages[0].recipients] == ["r0@example.org", "r1@example.org"]


def test_a_pipelined_session_in_one_piece() -> None:
    talk = dialogue()
    body = b"Subject: x\r\n\r\n..dot\r\n.\r\n"
    whole = b"EHLO c\r\n" + LOGIN + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n" + body
    talk.send(whole + b"MAIL FROM:<>\r\nRCPT TO:<e@f.example>\r\nBDAT 4\r\nab\r\nBDAT 3 LAST\r\nx\r\nQUIT\r\n")
    assert talk.codes == [220, 250, 235, 250, 250, 354, 250, 250, 250, 250, 250, 221]
    assert [m.data for m in talk.messages] == [b"Subject: x\r\n\r\n.dot\r\n", b"ab\r\nx\r\n"]
    assert [m.mail.reverse_path for m in talk.messages] == ["a@b.example", ""]
    assert talk.session.goodbye


def test_every_parameter_arrives_decoded() -> None:
    talk = dialogue().login()
    talk.send(
        b"MAIL FROM:<a@b.example> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=hdrs ENVID=x+2By AUTH=a+40b\r\n"
        b"RCPT TO:<@relay.example:c@d.example> NOTIFY=success,DELAY ORCPT=rfc822;Bob+40d.example\r\n"
        b"RCPT TO:<Postmaster> NOTIFY=NEVER\r\nDATA\r\nx\r\n.\r\n"
    )
    (message,) = talk.messages
    assert (message.mail.smtputf8, message.mail.ret, message.mail.envid, message.mail.size) == (True, "HDRS", "x+y", 10)
    first, second = message.recipients
    assert (first.forward_path, first.notify, first.orcpt) == (
        "c@d.example",
        frozenset({"SUCCESS", "DELAY"}),
        "rfc822;Bob@d.example",
    )
    assert (second.forward_path, second.notify, second.orcpt) == ("postmaster@mx.example", frozenset({"NEVER"}), "")


def test_an_oversized_message_is_read_to_its_end_but_not_kept() -> None:
    talk = dialogue().begin()
    talk.send(b"DATA\r\n")
    for _ in range(300):
        assert talk.send((b"x" * 98 + b"\r\n") * 10) == b""
        assert talk.session.buffered_bytes <= 102_000
    assert talk.session.buffered_bytes < 10
    assert talk.send(b".\r\n").startswith(b"552 5.3.4")
    assert talk.send(b"MAIL FROM:<a@b.example>\r\n").startswith(b"250")
    assert not talk.messages


def test_an_oversized_chunk_fails_and_so_do_those_after_it() -> None:
    talk = dialogue().begin()
    talk.send(b"BDAT 200000\r\n" + (b"x" * 98 + b"\r\n") * 2000 + b"BDAT 2\r\nhiBDAT 2 LAST\r\nyo")
    assert talk.codes[-3:] == [552, 503, 503]
    assert talk.session.buffered_bytes == 0
    assert not talk.messages


def test_a_line_longer_than_998_is_refused_at_the_end() -> None:
    talk = dialogue().begin()
    assert talk.send(b"DATA\r\n." + b"." * 998 + b"\r\n.\r\n").endswith(b"queued as 1000\r\n")
    talk.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n")
    assert b"554 5.6.0 A line is longer" in talk.send(b"DATA\r\n" + b"x" * 999 + b"\r\n.\r\n")


def test_a_message_refused_by_the_driver_while_it_arrives() -> None:
    talk = dialogue().begin()
    talk.send(b"DATA\r\nsome\r\n")
    talk.session.refuse_message(Reply.of(451, "4.3.1", "Full"))
    assert talk.session.buffered_bytes < 10
    assert talk.send(b"more\r\n.\r\n") == b"451 4.3.1 Full\r\n"


def test_an_endless_command_line_is_cut_off() -> None:
    talk = dialogue()
    said = b""
    for _ in range(20):
        said += talk.send(b"x" * 1000)
        assert talk.session.buffered_bytes < 14_000
    assert said.startswith(b"500 5.5.2 The line is too long")
    assert talk.session.closing


def test_much_asked_and_nothing_sent_stalls_the_session() -> None:
    session = ServerSession(config())
    session.receive(b"HELP\r\n" * 20_000)
    outputs = []
    while session.stalled:
        outputs.append(session.bytes_to_send())
        session.proceed()
    assert len(outputs) > 10
    assert max(map(len, outputs)) < MAX_UNSENT_BYTES + 600
    assert b"".join([*outputs, session.bytes_to_send()]).count(b"214 ") == 20_000


def test_starttls_forgets_what_was_said_before() -> None:
    talk = dialogue()
    talk.send(b"EHLO c.example\r\n")
    assert talk.send(b"STARTTLS\r\n") == b"220 2.0.0 Ready to start TLS\r\n"
    assert isinstance(talk.events[-1], TlsAsked)
    talk.session.tls_started("TLSv1.3 X")
    assert talk.session.ehlo_name == ""
    assert talk.send(LOGIN).startswith(b"503 5.5.1")
    assert talk.send(b"EHLO c.example\r\n" + LOGIN).endswith(b"235 2.7.0 Authentication successful\r\n")
    assert talk.session.protocol(smtputf8=False) == "ESMTPSA"
    assert talk.session.protocol(smtputf8=True) == "UTF8SMTPSA"


def test_requiretls_is_offered_and_taken_under_tls() -> None:
    talk = dialogue()
    assert b"REQUIRETLS" not in talk.send(b"EHLO c.example\r\n")
    talk.send(b"STARTTLS\r\n")
    talk.session.tls_started("TLSv1.3 X")
    assert b"REQUIRETLS\r\n" in talk.send(b"EHLO c.example\r\n")
    assert talk.send(LOGIN + b"MAIL FROM:<ann@shop.example> requiretls\r\n").endswith(b"250 2.1.0 Sender ok\r\n")
    event = talk.events[-1]
    assert isinstance(event, SenderGiven)
    assert event.mail.requiretls


@pytest.mark.parametrize("injected", [b"STARTTLS\r\nEHLO x\r\n", b"STARTTLS\r\nx"])
def test_bytes_behind_starttls_close_the_connection(injected: bytes) -> None:
    talk = dialogue()
    talk.send(b"EHLO c.example\r\n")
    assert talk.send(injected).startswith(b"554 5.5.1")
    assert talk.session.closing


def test_bytes_between_starttls_and_the_handshake_close_the_connection() -> None:
    talk = dialogue()
    talk.send(b"EHLO c.example\r\nSTARTTLS\r\n")
    assert talk.send(b"EHLO injected.example\r\n") == b""
    assert talk.session.closing


def test_no_tls_offered() -> None:
    talk = dialogue(starttls=False)
    assert b"STARTTLS" not in talk.send(b"EHLO c.example\r\n")
    assert talk.send(b"STARTTLS\r\n").startswith(b"503 5.5.1")


def test_shutting_down_says_421_at_once_when_nothing_is_under_way() -> None:
    talk = dialogue().begin()
    assert talk.session.shut_down(Reply.of(421, "4.3.2", "Stopping")) == []
    assert talk.session.bytes_to_send() == b"421 4.3.2 Stopping\r\n"
    assert talk.session.closing


def test_shutting_down_waits_for_the_message_that_is_arriving() -> None:
    talk = dialogue().begin()
    talk.send(b"DATA\r\nabc\r\n")
    assert talk.session.shut_down(Reply.of(421, "4.3.2", "Stopping")) == []
    assert talk.send(b".\r\nMAIL FROM:<a@b.example>\r\n") == b"250 2.0.0 Ok: queued as 5\r\n421 4.3.2 Stopping\r\n"


def test_an_answer_that_comes_after_the_end_is_dropped() -> None:
    session = dialogue().begin().session
    (event,) = session.receive(b"BDAT 3 LAST\r\nabc")
    (event,) = session.answer(None)
    assert isinstance(event, MessageReceived)
    session.close(None)
    session.bytes_to_send()
    assert session.answer(Reply.of(250, "2.0.0", "Ok")) == []
    assert session.bytes_to_send() == b""


def test_what_a_reply_quotes_cannot_break_the_protocol() -> None:
    session = dialogue().login().session
    session.receive(b"MAIL FROM:<a@b.example>\r\n")
    session.answer(Reply.of(550, "5.7.1", "bad\r\n250 forged ü " + "x" * 2000))
    said = session.bytes_to_send()
    assert said.startswith(b"550 5.7.1 bad??250 forged ?")
    assert said.count(b"\n") == 1
    assert len(said) <= 512


SMUGGLED = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\rx",
    b"\n\n.\r\n",
    b"\r\r\n.\r\n",
    b"\r\n\n.\r\n",
    b"\r\n.\r\r\n",
    b"\r\n.\0\r\n",
    b"\0",
    b"\n",
    b"\r",
]


@pytest.mark.parametrize("end", SMUGGLED)
@pytest.mark.parametrize("piecewise", [False, True])
def test_smuggled_ends_of_data_are_refused(end: bytes, piecewise: bool) -> None:
    talk = dialogue().begin()
    talk.send(b"DATA\r\n")
    stream = (
        b"Subject: x\r\n\r\nhi" + end + b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<v@d.example>\r\nDATA\r\nx\r\n.\r\n"
    )
    said = b"".join(talk.send(stream[i : i + 1]) for i in range(len(stream))) if piecewise else talk.send(stream)
    assert said == VIOLATION.encode()
    assert talk.session.closing
    assert not talk.messages


@pytest.mark.parametrize("text", [b"a\nb", b"a\rb", b"a\0b", b"a\r", b"\r\n.\n"])
def test_chunks_with_bare_line_ends_are_refused(text: bytes) -> None:
    talk = dialogue().begin()
    assert talk.send(b"BDAT %d LAST\r\n" % len(text) + text) == VIOLATION.encode()
    assert talk.session.closing
    assert not talk.messages


def test_a_line_end_may_be_cut_by_a_chunk() -> None:
    talk = dialogue().begin()
    talk.send(b"BDAT 2\r\na\rBDAT 4\r\n\n.\r\nBDAT 0 LAST\r\n")
    assert talk.messages[0].data == b"a\r\n.\r\n"


@pytest.mark.parametrize(
    "line", [b"NOOP\n", b"NOOP\r", b"NO\nOP\r\n", b"NOOP\r\r\n", b"RCPT TO:<a@b.example>\nDATA\r\n"]
)
def test_bare_line_ends_in_commands_are_refused(line: bytes) -> None:
    talk = dialogue().begin()
    assert talk.send(line + b"x").startswith(b"500 5.6.0")
    assert talk.session.closing
