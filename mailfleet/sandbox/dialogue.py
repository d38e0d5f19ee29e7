"""The conversation of a simulated provider with one client, without the socket: SMTP as a server (RFC 5321).

Written apart from the product's own server, as an opinion of its own. It is strict where large providers are strict: lines
end CRLF, parameters that were not offered are refused, nothing sent before TLS survives it.
"""

from __future__ import annotations

import re

from mailfleet.sandbox.provider import Answer, Provider, Transaction

_MAX_LINE_BYTES = 2048
_MAX_ERRORS = 10
_COMMAND, _DATA, _BDAT = "command", "data", "bdat"
_PATH = re.compile(r"(FROM|TO): ?<((?:\"(?:[^\"\\]|\\.)*\"|[^\"<>\s])*)>((?: +[^\s]+)*) *", re.IGNORECASE)


class Dialogue:
    """Bytes in by ``receive``, bytes out in ``out``; after each call the caller looks at the flags.

    ``closed``: send ``out``, then close. ``dropped``: abort without a word. ``wants_tls``: send ``out``, do the handshake, call
    ``secured``. ``delay_s`` above 0: read no further, and call ``resume`` after so many seconds.
    """

    def __init__(self, provider: Provider, client: str, *, offers_tls: bool) -> None:
        self.out: list[bytes] = []
        self.closed = False
        self.dropped = False
        self.wants_tls = False
        self.delay_s = 0.0
        self._provider = provider
        self._spec = provider.spec
        self._client = client
        self._offers_tls = offers_tls
        self._buffer = bytearray()
        self._scanned = 0
        self._state = _COMMAND
        self._greeted = False
        self._name = ""  # that the client gave in EHLO or HELO
        self._offered: frozenset[str] = frozenset()  # extensions the client was told about
        self._transaction: Transaction | None = None
        self._chunks = bytearray()
        self._chunk_left = 0
        self._chunk_last = False
        self._bdat_begun = False
        self._oversize = False
        self._held = b""
        self._errors = 0
        self._messages = 0
        self._usual = {key: provider.words(key, client=client) for key in ("mail", "rcpt", "data")}

    def receive(self, data: bytes) -> None:
        """Take bytes as they come, in pieces of any size."""
        self._buffer += data
        self._pump()

    def resume(self) -> None:
        """The delay is over: answer the message that waited, then go on."""
        self.delay_s = 0.0
        message, self._held = self._held, b""
        self._judge(message)
        self._pump()

    def secured(self) -> None:
        """TLS is on. RFC 3207 4.2: everything learned before is forgotten.

        What came since ``wants_tls`` came through TLS, ahead of this call, and is taken now.
        """
        self.wants_tls = False
        self._offers_tls = False
        self._greeted = False
        self._offered = frozenset()
        self._reset()
        self._pump()

    def end(self, words: bytes) -> None:
        """Say ``words`` and close."""
        self.out.append(words)
        self.closed = True
        self._buffer.clear()

    def _pump(self) -> None:
        more = True
        while more and self._buffer and not (self.closed or self.dropped or self.wants_tls or self.delay_s):
            if self._state == _COMMAND:
                more = self._take_line()
            elif self._state == _DATA:
                more = self._take_message()
            else:
                more = self._take_chunk()

    def _complain(self, words: bytes) -> None:
        self._errors += 1
        if self._errors > _MAX_ERRORS:
            self.end(b"421 4.7.0 Too many errors on this connection, closing\r\n")
        else:
            self.out.append(words)

    def _reset(self) -> None:
        self._transaction = None
        self._state = _COMMAND
        self._scanned = 0
        self._chunks.clear()
        self._bdat_begun = self._oversize = False

    # Lines

    def _take_line(self) -> bool:
        end = self._buffer.find(b"\n", 0, _MAX_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= _MAX_LINE_BYTES:
                self.end(b"500 5.5.6 Line too long\r\n")
            return False
        if end == 0 or self._buffer[end - 1] != 13:
            self.end(b"500 5.5.2 Bare LF received; lines end CRLF\r\n")
            return False
        line = bytes(self._buffer[: end - 1])
        del self._buffer[: end + 1]
        verb, _, rest = line.partition(b" ")
        handler = _HANDLERS.get(verb.upper())
        try:
            if handler is None:
                self._complain(b"500 5.5.1 Command unrecognized\r\n")
            else:
                handler(self, rest.decode("utf-8"))
        except UnicodeDecodeError:
            self._complain(b"501 5.5.2 Not UTF-8\r\n")
        return True

    def _ehlo(self, name: str) -> None:
        spec = self._spec
        if not spec.extensions:
            self._complain(
                b"502 Command not implemented\r\n"
            )  # a server from before RFC 1869: the client falls back to HELO
            return
        if not name.strip():
            self._complain(b"501 5.5.4 EHLO needs a name\r\n")
            return
        self._reset()
        self._greeted = True
        self._name = name.strip()
        self._offered = spec.extensions | {"SIZE"}
        text = spec.words["ehlo"].lines[0].format(host=spec.host, client=self._client)
        lines = [text, f"SIZE {spec.max_message_bytes}", *sorted(spec.extensions)]
        if self._offers_tls:
            lines.append("STARTTLS")
        self.out.extend(f"250-{line}\r\n".encode() for line in lines[:-1])
        self.out.append(f"250 {lines[-1]}\r\n".encode())

    def _helo(self, name: str) -> None:
        if not name.strip():
            self._complain(b"501 5.5.4 HELO needs a name\r\n")
            return
        self._reset()
        self._greeted, self._name, self._offered = True, name.strip(), frozenset()
        self.out.append(f"250 {self._spec.host}\r\n".encode())

    def _starttls(self, rest: str) -> None:
        if rest or not self._offers_tls or not self._greeted:
            self._complain(b"503 5.5.1 STARTTLS is not available now\r\n")
            return
        self._buffer.clear()  # RFC 3207 5: what was sent in the clear behind STARTTLS must not count
        self.wants_tls = True
        self.out.append(b"220 2.0.0 Ready to start TLS\r\n")

    def _mail(self, rest: str) -> None:
        if not self._greeted:
            self._complain(b"503 5.5.1 EHLO or HELO first\r\n")
        elif self._transaction is not None:
            self._complain(b"503 5.5.1 Nested MAIL command\r\n")
        elif self._messages >= self._spec.messages_per_connection:
            self.end(self._provider.turned_away(self._client, "messages"))
        elif (parsed := parse_path(rest, "FROM")) is None:
            self._complain(b"501 5.5.4 Syntax: MAIL FROM:<address>\r\n")
        else:
            transaction = Transaction(parsed[0], helo=self._name)
            refusal = self._mail_parameters(transaction, parsed[1])
            if not refusal and not transaction.sender.isascii() and not transaction.smtputf8:
                refusal = b"553 5.6.7 Non-ASCII addresses need SMTPUTF8\r\n"  # RFC 6531 3.5
            if refusal:
                self._complain(refusal)
                return
            self._transaction = transaction
            self.out.append(self._usual["mail"])

    def _mail_parameters(self, transaction: Transaction, parameters: list[str]) -> bytes:
        """Take the parameters in; the refusal, if one is not as offered (RFC 5321 4.1.1.11)."""
        for parameter in parameters:
            key, _, value = parameter.upper().partition("=")
            if key == "SIZE" and "SIZE" in self._offered and value.isdigit() and len(value) <= 20:
                if int(value) > self._spec.max_message_bytes:
                    return self._provider.too_large(transaction, self._client).wire
            elif key == "BODY" and (value in self._offered or (value == "7BIT" and "8BITMIME" in self._offered)):
                continue  # 8BITMIME and BINARYMIME are the names of extensions as well as of bodies
            elif key == "SMTPUTF8" and not value and "SMTPUTF8" in self._offered:
                transaction.smtputf8 = True
            elif "DSN" not in self._offered or key not in ("RET", "ENVID") or not value:
                return b"555 5.5.4 Unsupported parameter\r\n"
        return b""

    def _rcpt(self, rest: str) -> None:
        transaction = self._transaction
        parsed = parse_path(rest, "TO")
        if transaction is None:
            self._complain(b"503 5.5.1 MAIL first\r\n")
        elif parsed is None or not parsed[0]:
            self._complain(b"501 5.5.4 Syntax: RCPT TO:<address>\r\n")
        elif parsed[1] and not all(self._is_rcpt_parameter(parameter) for parameter in parsed[1]):
            self._complain(b"555 5.5.4 Unsupported parameter\r\n")
        elif len(transaction.recipients) >= self._spec.max_recipients:
            self.out.append(b"452 4.5.3 Too many recipients\r\n")  # RFC 5321 4.5.3.1.10
        else:
            answer = self._provider.recipient(transaction, parsed[0], self._client)
            self._answer(answer if answer.wire else Answer(self._usual["rcpt"]))

    def _is_rcpt_parameter(self, parameter: str) -> bool:
        key, _, value = parameter.upper().partition("=")
        return "DSN" in self._offered and key in ("NOTIFY", "ORCPT") and bool(value)

    def _data(self, rest: str) -> None:
        if rest or self._bdat_begun:
            self._complain(b"503 5.5.1 DATA stands alone, and not behind BDAT\r\n")  # RFC 3030 2
        elif self._transaction is None:
            self._complain(b"503 5.5.1 MAIL first\r\n")
        elif not self._transaction.recipients:
            self.out.append(b"554 5.5.1 No valid recipients\r\n")  # RFC 2920 3.1
        else:
            self._state = _DATA
            self.out.append(self._usual["data"])

    def _bdat(self, rest: str) -> None:
        size, _, last = rest.partition(" ")
        if not size.isdigit() or len(size) > 12 or last.upper() not in ("", "LAST"):
            self.end(b"501 5.5.4 Syntax: BDAT size [LAST]\r\n")  # where the next command begins cannot be known
            return
        self._bdat_begun = True
        self._chunk_left, self._chunk_last = int(size), bool(last)
        self._state = _BDAT
        if not self._chunk_left:
            self._end_chunk()

    def _rset(self, rest: str) -> None:
        self._reset()
        self._noop(rest)

    def _noop(self, rest: str) -> None:
        self.out.append(b"250 2.0.0 Ok\r\n")

    def _vrfy(self, rest: str) -> None:
        self.out.append(b"252 2.1.5 Send some mail, I'll try my best\r\n")

    def _quit(self, rest: str) -> None:
        self.end(f"221 2.0.0 {self._spec.host} closing connection\r\n".encode())

    # Messages

    def _take_message(self) -> bool:
        if self._drops():
            return False
        buffer = self._buffer
        if buffer.startswith(b".\r\n") and not self._oversize:
            end = -2  # an empty message; once the beginning was thrown away this would be the end of some line
        else:
            end = buffer.find(b"\r\n.\r\n", max(0, self._scanned - 4))
            if end < 0:
                self._scanned = len(buffer)
                if len(buffer) > self._spec.max_message_bytes + 4096:
                    self._oversize = True
                    del buffer[:-4]
                    self._scanned = 0
                return False
        message = bytes(buffer[: end + 2])
        del buffer[: end + 5]
        if b"\r\n." in message or message.startswith(b"."):
            message = message.removeprefix(b".").replace(b"\r\n.", b"\r\n")  # RFC 5321 4.5.2
        self._message_complete(message)
        return True

    def _take_chunk(self) -> bool:
        if self._transaction is not None and self._transaction.recipients and self._drops():
            return False
        piece = self._buffer[: self._chunk_left]
        del self._buffer[: len(piece)]
        self._chunk_left -= len(piece)
        if len(self._chunks) + len(piece) > self._spec.max_message_bytes:
            self._oversize = True
        else:
            self._chunks += piece
        if not self._chunk_left:
            self._end_chunk()
        return True

    def _end_chunk(self) -> None:
        self._state = _COMMAND
        if "CHUNKING" not in self._offered or self._transaction is None or not self._transaction.recipients:
            self._reset()
            self._complain(b"503 5.5.1 BDAT without CHUNKING, MAIL or a valid recipient\r\n")
        elif self._chunk_last:
            self._message_complete(bytes(self._chunks))
        else:
            self.out.append(b"250 2.0.0 Chunk received\r\n")

    def _drops(self) -> bool:
        assert self._transaction is not None
        self.dropped = self._provider.drops(self._transaction, self._client)
        return self.dropped

    def _message_complete(self, message: bytes) -> None:
        assert self._transaction is not None
        if self._transaction.delay_s:
            self._held, self.delay_s = message, self._transaction.delay_s
        else:
            self._judge(message)

    def _judge(self, message: bytes) -> None:
        transaction = self._transaction
        assert transaction is not None
        if self._oversize or len(message) > self._spec.max_message_bytes:
            answer = self._provider.too_large(transaction, self._client)
        else:
            answer = self._provider.message(transaction, message, self._client)
        self._messages += 1
        self._reset()
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        if answer.close:
            self.end(answer.wire)
        else:
            self.out.append(answer.wire)


_HANDLERS = {
    b"EHLO": Dialogue._ehlo,
    b"HELO": Dialogue._helo,
    b"STARTTLS": Dialogue._starttls,
    b"MAIL": Dialogue._mail,
    b"RCPT": Dialogue._rcpt,
    b"DATA": Dialogue._data,
    b"BDAT": Dialogue._bdat,
    b"RSET": Dialogue._rset,
    b"NOOP": Dialogue._noop,
    b"VRFY": Dialogue._vrfy,
    b"QUIT": Dialogue._quit,
}


def parse_path(rest: str, keyword: str) -> tuple[str, list[str]] | None:
    """``FROM:<ann@example.org> SIZE=10`` to the path and its parameters; ``None`` when it is not of that form."""
    match = _PATH.fullmatch(rest)
    if match is None or match[1].upper() != keyword:
        return None
    return match[2], match[3].split()
