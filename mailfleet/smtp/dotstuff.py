"""Transparency (RFC 5321 4.5.2): a message as it travels after DATA."""

from __future__ import annotations


def stuffed(message: bytes, *, dotted: bool = True) -> bytes:
    """``message`` with a dot added before every line that starts with one, and the final dot line after it.

    ``message`` should have CRLF line ends only, which is not checked here: it costs more than the rest of a transaction. A
    line that starts after a bare LF is stuffed too, so that a remote which takes that for a line end finds no final dot
    line inside the message. A missing last line end is added. ``dotted`` false: the caller knows that no line starts with a dot.
    """
    if dotted and b"\n." in message:
        message = message.replace(b"\n.", b"\n..")
    if dotted and message[:1] == b".":
        message = b"." + message
    return message + (b".\r\n" if message[-2:] == b"\r\n" or not message else b"\r\n.\r\n")
