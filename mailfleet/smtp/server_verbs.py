"""What a server does on each command (RFC 5321 4.1.1 and extensions), one function a verb, and the table of them.

A handler is called only in a state where ``server_states.ALLOWED`` has a place for its verb, except that of BDAT, whose
chunk must be read even when it is refused. What cannot be obeyed raises ``CommandError``.
"""

from __future__ import annotations

from collections.abc import Callable

from mailfleet.smtp import commands, server_auth
from mailfleet.smtp.commands import CommandError
from mailfleet.smtp.message_reader import MessageReader, too_large
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.server_core import SessionCore
from mailfleet.smtp.server_states import (
    ALLOWED,
    LoginAsked,
    MessageComing,
    RecipientGiven,
    SenderGiven,
    State,
    TlsAsked,
)

_OK = Reply.of(250, "2.0.0", "Ok")


def _no_argument(verb: str, argument: str) -> None:
    if argument:
        raise CommandError(501, "5.5.4", f"{verb} takes no argument")


def _ehlo(core: SessionCore, argument: str) -> None:
    _hello(core, argument, esmtp=True)
    lines = [
        core.config.hostname,
        "PIPELINING",
        f"SIZE {core.config.max_message_bytes}",
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "DSN",
        "ENHANCEDSTATUSCODES",
    ]
    if core.config.starttls and not core.tls:
        lines.append("STARTTLS")
    if core.tls:
        lines.append("REQUIRETLS")  # RFC 8689 2: nobody may ask for it in the clear
    if core.config.auth and (core.tls or core.config.auth_without_tls):
        lines.append("AUTH " + " ".join(server_auth.MECHANISMS))
    core.say(Reply(250, tuple(lines)))


def _helo(core: SessionCore, argument: str) -> None:
    _hello(core, argument, esmtp=False)
    core.say(Reply(250, (core.config.hostname,)))


def _hello(core: SessionCore, argument: str, *, esmtp: bool) -> None:
    core.ehlo_name = commands.parse_hello(argument)
    core.esmtp = esmtp
    core.reset()  # RFC 5321 4.1.4


def _starttls(core: SessionCore, argument: str) -> None:
    _no_argument("STARTTLS", argument)
    if core.tls or not core.config.starttls:
        raise CommandError(503, "5.5.1", "TLS is in use already" if core.tls else "TLS is not offered")
    if core.position < len(core.input):
        # RFC 3207 4.2 and CVE-2011-0411: what came in the clear must not be read as if it had come under TLS
        core.close(Reply.of(554, "5.5.1", "Nothing may follow STARTTLS before the handshake"))
        return
    core.say(Reply.of(220, "2.0.0", "Ready to start TLS"))
    core.pending = TlsAsked()


def _auth(core: SessionCore, argument: str) -> None:
    if not core.config.auth:
        raise CommandError(502, "5.5.1", "AUTH is not offered")
    if core.authenticated:  # RFC 4954 4
        raise CommandError(503, "5.5.1", "You are logged in already")
    if not core.tls and not core.config.auth_without_tls:
        raise CommandError(538, "5.7.11", "Logging in needs TLS: send STARTTLS first")
    mechanism, _, initial = argument.partition(" ")
    core.exchange = server_auth.exchange(mechanism.upper())
    if initial == "=":  # RFC 4954 4: an empty initial response
        respond(core, b"")
    else:
        respond(core, server_auth.decode_response(initial.encode()) if initial else None)


def respond(core: SessionCore, response: bytes | None) -> None:
    """Take the client's next step in the AUTH exchange that is going on. Raises ``CommandError``."""
    assert core.exchange
    result = core.exchange.step(response)
    if isinstance(result, server_auth.Credentials):
        core.state, core.exchange = State.READY, None
        core.pending = LoginAsked(result.username, result.password)
    else:
        core.state = State.RESPONSE
        core.say(Reply(334, (server_auth.encode_challenge(result),)))


def _mail(core: SessionCore, argument: str) -> None:
    if core.config.auth and not core.authenticated:
        may_login = core.tls or core.config.auth_without_tls
        raise CommandError(530, "5.7.0", "Log in first" if may_login else "Send STARTTLS first, then log in")
    mail = commands.parse_mail(argument)
    if mail.requiretls and not core.tls:
        raise CommandError(530, "5.7.10", "REQUIRETLS needs TLS: send STARTTLS first")
    if mail.size > core.config.max_message_bytes:  # RFC 1870 6.1
        core.refuse(too_large(core.config.max_message_bytes))
    else:
        core.pending = SenderGiven(mail)


def _rcpt(core: SessionCore, argument: str) -> None:
    assert core.transaction
    rcpt = commands.parse_rcpt(argument, smtputf8=core.transaction.mail.smtputf8, hostname=core.config.hostname)
    if len(core.transaction.recipients) >= core.config.max_recipients:  # RFC 5321 4.5.3.1.10
        core.say(Reply.of(452, "4.5.3", "Too many recipients; send the rest in another transaction"))
    else:
        core.pending = RecipientGiven(rcpt)


def _data(core: SessionCore, argument: str) -> None:
    _no_argument("DATA", argument)
    assert core.transaction
    core.reader = MessageReader(core.config.max_message_bytes)
    core.pending = MessageComing(core.transaction.mail.size)


def _bdat(core: SessionCore, argument: str) -> None:
    try:
        chunk = commands.parse_bdat(argument)
    except CommandError as error:
        core.close(error.reply)  # how many bytes of message follow cannot be known
        return
    core.chunk_left, core.chunk_last = chunk.size, chunk.last
    if core.state not in ALLOWED["BDAT"]:
        core.chunk_refusal = core.out_of_place("BDAT")  # RFC 3030 2: the bytes of a refused chunk come all the same
        core.enter_chunk()
    elif core.state is State.RCPT:
        assert core.transaction
        core.reader = MessageReader(core.config.max_message_bytes)
        core.state = State.CHUNKS
        core.pending = MessageComing(max(core.transaction.mail.size, chunk.size))
    else:
        core.enter_chunk()


def _rset(core: SessionCore, argument: str) -> None:
    _no_argument("RSET", argument)
    if core.state is not State.GREETED:
        core.reset()
    core.say(_OK)


def _noop(core: SessionCore, _argument: str) -> None:
    core.say(_OK)


def _quit(core: SessionCore, argument: str) -> None:
    _no_argument("QUIT", argument)
    core.close(Reply.of(221, "2.0.0", "Goodbye"))


def _vrfy(core: SessionCore, argument: str) -> None:
    if not argument:
        raise CommandError(501, "5.5.4", "Write VRFY address")
    core.say(Reply.of(252, "2.5.0", "Cannot verify; send the message and see"))  # RFC 5321 7.3


def _expn(_core: SessionCore, _argument: str) -> None:
    raise CommandError(502, "5.5.1", "EXPN is not offered")


def _help(core: SessionCore, _argument: str) -> None:
    core.say(Reply.of(214, "2.0.0", " ".join(HANDLERS)))


HANDLERS: dict[str, Callable[[SessionCore, str], None]] = {
    "EHLO": _ehlo,
    "HELO": _helo,
    "STARTTLS": _starttls,
    "AUTH": _auth,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _data,
    "BDAT": _bdat,
    "RSET": _rset,
    "NOOP": _noop,
    "VRFY": _vrfy,
    "EXPN": _expn,
    "HELP": _help,
    "QUIT": _quit,
}
