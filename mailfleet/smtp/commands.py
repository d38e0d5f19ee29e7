"""SMTP commands as a server reads them (RFC 5321 4.1 and the extensions we offer): one line in, one value out.

Only syntax lives here: what may follow what is in ``server_states``, who may do what is the entrance's business. A line
that is not right raises ``CommandError`` with the reply to give. Nothing is repaired: a client that writes
``MAIL FROM: <a@b.example>`` is told so, because a server that guesses and a scanner in front of it that guesses otherwise
are how one message becomes two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailfleet.base.errors import InputError
from mailfleet.mail import xtext
from mailfleet.mail.address import Address
from mailfleet.smtp.reply import Reply

MAX_LINE_BYTES = 512  # RFC 5321 4.5.3.1.4, CRLF included
MAX_AUTH_LINE_BYTES = 12288  # RFC 4954 4
_LINE_BYTES = {
    "AUTH": MAX_AUTH_LINE_BYTES,
    # What each extension adds: SIZE 26 (RFC 1870), BODY 17 (RFC 6152), SMTPUTF8 10 (RFC 6531), ENVID and RET 107
    # (RFC 3461 5.2), AUTH 500 (RFC 4954), REQUIRETLS 11 (RFC 8689); for RCPT: SMTPUTF8 10, NOTIFY and ORCPT 500.
    "MAIL": MAX_LINE_BYTES + 26 + 17 + 10 + 107 + 500 + 11,
    "RCPT": MAX_LINE_BYTES + 10 + 500,
}
_COMMAND = re.compile(r"([A-Za-z]+)(?: (.*))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HELLO = re.compile(r"[A-Za-z0-9._:-]+|\[[A-Za-z0-9.:_-]+\]")
# RFC 5321 4.1.2 Path. A source route is read and forgotten (appendix C); Address.parse judges the mailbox itself.
_PATH = re.compile(r'<(?:@[^\s<>"]+:)?((?:"(?:[^"\\]|\\.)*"|[^\s<>"@]+)(?:@[^\s<>"@]+)?|)>(?: +(.*))?')
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\U0010ffff]+))?")  # RFC 5321 4.1.2, RFC 6531 3.3
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 3
_BDAT = re.compile(r"([0-9]{1,20})( LAST)?", re.IGNORECASE)  # RFC 3030 2
_PRINTABLE = re.compile(r"[ -~]*")


class CommandError(InputError):
    """A command that cannot be obeyed as it is written; ``reply`` is what to say to the client."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        self.reply = Reply.of(code, enhanced, text)
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class MailCommand:
    """MAIL. ``size`` is 0 when not declared; ``reverse_path`` is canonical, empty for the null reverse-path."""

    reverse_path: str
    size: int = 0
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    requiretls: bool = False


@dataclass(frozen=True, slots=True)
class RcptCommand:
    """RCPT. ``notify`` is None when the parameter is absent."""

    forward_path: str
    notify: frozenset[str] | None = None
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class BdatCommand:
    """BDAT: ``size`` bytes follow the line."""

    size: int
    last: bool


def parse_line(line: bytes) -> tuple[str, str]:
    """A command line without its CRLF to its verb, in capitals, and its argument. Raises ``CommandError``."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(500, "5.5.2", "The command is neither ASCII nor UTF-8") from None
    if _CONTROL.search(text):
        raise CommandError(500, "5.5.2", "The command has a control character")
    match = _COMMAND.fullmatch(text.rstrip(" "))  # RFC 5321 4.1.1: white space before the CRLF is tolerated
    if not match:
        raise CommandError(500, "5.5.2", "The command is not a word followed by a space")
    verb = match[1].upper()
    if len(line) + 2 > _LINE_BYTES.get(verb, MAX_LINE_BYTES):
        raise CommandError(500, "5.5.2", "The command line is too long")
    return verb, match[2] or ""


def parse_hello(argument: str) -> str:
    """The name in EHLO or HELO. Names that are no host names (underscores, no dot) pass: RFC 5321 4.1.4 wants no judgement."""
    if not argument:
        raise CommandError(501, "5.5.4", "Give your host name or address literal")
    if not _HELLO.fullmatch(argument):
        raise CommandError(501, "5.5.4", "That is neither a host name nor an address literal")
    return argument


def parse_mail(argument: str) -> MailCommand:
    """The argument of MAIL. Raises ``CommandError``."""
    mailbox, parameters = _path(argument, "FROM", "MAIL FROM:<address>")
    values: dict[str, object] = {}
    for keyword, value in parameters.items():
        if keyword == "SIZE" and value is not None and _SIZE.fullmatch(value):
            values["size"] = int(value)
        elif keyword == "BODY" and value is not None and value.upper() in ("7BIT", "8BITMIME"):  # RFC 6152
            continue
        elif keyword == "BODY" and value is not None:  # BINARYMIME (RFC 3030) is not offered
            raise CommandError(555, "5.5.4", f"BODY={value} is not offered; use 7BIT or 8BITMIME")
        elif keyword == "SMTPUTF8" and value is None:  # RFC 6531 3.4
            values["smtputf8"] = True
        elif keyword == "REQUIRETLS" and value is None:  # RFC 8689 2
            values["requiretls"] = True
        elif keyword == "RET" and value is not None and value.upper() in ("FULL", "HDRS"):  # RFC 3461 4.3
            values["ret"] = value.upper()
        elif keyword == "ENVID" and value is not None and len(value) <= 100:  # RFC 3461 4.4
            values["envid"] = _decoded(keyword, value)
        elif keyword == "AUTH" and value is not None:  # RFC 4954 5: read and forgotten, nobody is trusted to vouch
            _decoded(keyword, value if value != "<>" else "")
        else:
            _refuse_parameter(keyword, value, ("SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "REQUIRETLS"))
    smtputf8 = bool(values.get("smtputf8"))
    _check_charset(argument, smtputf8)
    return MailCommand(_address(mailbox, "5.1.7") if mailbox else "", **values)  # type: ignore[arg-type] # one dict, many types


def parse_rcpt(argument: str, *, smtputf8: bool, hostname: str) -> RcptCommand:
    """The argument of RCPT in a transaction with or without SMTPUTF8. Raises ``CommandError``.

    ``<postmaster>`` without a domain (RFC 5321 4.1.1.3) is the postmaster of ``hostname``.
    """
    mailbox, parameters = _path(argument, "TO", "RCPT TO:<address>")
    notify: frozenset[str] | None = None
    orcpt = ""
    for keyword, value in parameters.items():
        if keyword == "NOTIFY" and value is not None:
            notify = _notify(value)
        elif keyword == "ORCPT" and value is not None and len(value) <= 500:  # RFC 3461 4.2
            orcpt = _decoded(keyword, value)
        else:
            _refuse_parameter(keyword, value, ("NOTIFY", "ORCPT"))
    _check_charset(argument, smtputf8)
    if not mailbox:
        raise CommandError(501, "5.1.3", "A recipient cannot be empty")
    if mailbox.lower() == "postmaster":
        return RcptCommand(f"postmaster@{hostname}", notify, orcpt)
    return RcptCommand(_address(mailbox, "5.1.3"), notify, orcpt)


def parse_bdat(argument: str) -> BdatCommand:
    """The argument of BDAT. Raises ``CommandError``; the caller cannot know then what follows and must close."""
    match = _BDAT.fullmatch(argument)
    if not match:
        raise CommandError(501, "5.5.4", "Write BDAT size or BDAT size LAST")
    return BdatCommand(int(match[1]), match[2] is not None)


def _path(argument: str, word: str, usage: str) -> tuple[str, dict[str, str | None]]:
    if argument[: len(word) + 1].upper() != word + ":":
        raise CommandError(501, "5.5.4", f"Write {usage}")
    match = _PATH.fullmatch(argument, len(word) + 1)
    if not match:  # RFC 5321 3.3: no space on either side of the colon
        raise CommandError(501, "5.5.4", f"Write {usage}, in angle brackets, with no space after the colon")
    parameters: dict[str, str | None] = {}
    for part in (match[2] or "").split(" "):
        if not part:
            continue
        parameter = _PARAMETER.fullmatch(part)
        if not parameter:
            raise CommandError(501, "5.5.4", "A parameter is not KEYWORD or KEYWORD=value")
        keyword = parameter[1].upper()
        if keyword in parameters:
            raise CommandError(501, "5.5.4", f"{keyword} is given twice")
        parameters[keyword] = parameter[2]
    return match[1], parameters


def _refuse_parameter(keyword: str, value: str | None, known: tuple[str, ...]) -> None:
    if keyword not in known:
        raise CommandError(555, "5.5.4", f"{keyword[:40]} is not a parameter of this command")  # RFC 5321 4.1.1.11
    raise CommandError(
        501, "5.5.4", f"{keyword} has a value that it cannot have" if value else f"{keyword} needs a value"
    )


def _check_charset(argument: str, smtputf8: bool) -> None:
    if not smtputf8 and not argument.isascii():
        raise CommandError(553, "5.6.7", "An address outside ASCII needs SMTPUTF8 on MAIL")  # RFC 6531 3.5


def _address(mailbox: str, enhanced: str) -> str:
    try:
        return str(Address.parse(mailbox))
    except InputError as error:
        raise CommandError(553, enhanced, f"{error.where[:100]}: {error.what}") from None


def _notify(value: str) -> frozenset[str]:
    words = value.upper().split(",")  # RFC 3461 4.1: NEVER stands alone
    wanted = frozenset(words)
    if len(wanted) != len(words) or (wanted != {"NEVER"} and not wanted <= {"SUCCESS", "FAILURE", "DELAY"}):
        raise CommandError(501, "5.5.4", "NOTIFY is NEVER, or some of SUCCESS, FAILURE, DELAY, each once")
    return wanted


def _decoded(keyword: str, value: str) -> str:
    """Decode xtext. What cannot stand in a header field of a DSN is refused here, or a line end in it would forge one."""
    try:
        decoded = xtext.decode_orcpt(value) if keyword == "ORCPT" else xtext.decode(value)
    except InputError as error:
        raise CommandError(501, "5.5.4", f"{keyword}: {error.what}") from None
    wrong = _CONTROL.search(decoded) if decoded[:6].lower() == "utf-8;" else not _PRINTABLE.fullmatch(decoded)
    if wrong:
        raise CommandError(501, "5.5.4", f"{keyword} has a character that is not printable")
    return decoded
