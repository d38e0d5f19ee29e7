"""MAIL and RCPT as the client writes them: parameters only where the remote offers the extension they belong to."""

from __future__ import annotations

from mailfleet.smtp.extensions import Extensions
from mailfleet.smtp.transaction import Recipient, Transaction


def mail_command(transaction: Transaction, extensions: Extensions) -> str:
    """``MAIL FROM:<...>`` with its parameters, ending CRLF."""
    command = f"MAIL FROM:<{transaction.reverse_path}>"
    if extensions.size:
        command += f" SIZE={len(transaction.message)}"  # RFC 1870 3: before dot-stuffing
    if transaction.smtputf8 and extensions.smtputf8:
        command += " SMTPUTF8"  # RFC 6531 3.4
    if transaction.eightbit and extensions.eightbitmime:
        command += " BODY=8BITMIME"  # RFC 6152 3
    if extensions.dsn:
        if transaction.ret:
            command += f" RET={transaction.ret}"
        if transaction.envid:
            command += f" ENVID={xtext(transaction.envid)}"
    if transaction.requiretls and extensions.requiretls:
        command += " REQUIRETLS"  # RFC 8689 2
    return command + "\r\n"


def rcpt_command(recipient: Recipient, extensions: Extensions) -> str:
    """``RCPT TO:<...>`` with its parameters, ending CRLF."""
    command = f"RCPT TO:<{recipient.address}>"
    if extensions.dsn:
        if recipient.notify is not None:
            command += f" NOTIFY={','.join(sorted(recipient.notify))}"
        if recipient.orcpt:
            command += f" ORCPT={_orcpt(recipient.orcpt)}"
    return command + "\r\n"


def xtext(text: str) -> str:
    """``text`` in xtext (RFC 3461 4): what is not a printable ASCII character other than ``+`` and ``=`` becomes ``+XX``."""
    return "".join(chr(byte) if 33 <= byte <= 126 and byte not in b"+=" else f"+{byte:02X}" for byte in text.encode())


def _orcpt(orcpt: str) -> str:
    kind, _, address = orcpt.partition(";")
    if kind.lower() == "utf-8" or not address.isascii():
        return f"utf-8;{_utf8_addr_xtext(address)}"
    return f"{kind};{xtext(address)}"


def _utf8_addr_xtext(address: str) -> str:
    """RFC 6533 3: fit for any server with DSN, whether or not it has SMTPUTF8."""
    return "".join(
        letter if "!" <= letter <= "~" and letter not in "+=\\" else f"\\x{{{ord(letter):X}}}" for letter in address
    )
