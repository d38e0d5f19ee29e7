"""What is sent: 10 KB messages, each different. The same bytes for every system that takes whole messages."""

from __future__ import annotations

SENDING_DOMAIN = "bench.test"
SENDER = f"news@{SENDING_DOMAIN}"
MESSAGE_BYTES = 10_000
CHECKS = 5  # messages of every batch that go where they are kept and verified
CHECK_DOMAIN = "check.test"
LINE = "The quick brown fox jumps over the lazy dog, and does so every day of the year.\r\n"
HEAD = (
    f"From: News <{SENDER}>\r\n"
    "To: {recipient}\r\n"
    "Subject: Hello Ann, your order {number}\r\n"
    "Date: Wed, 01 Jan 2025 10:00:00 +0000\r\n"
    f"Message-ID: <{{number}}.{{run}}@{SENDING_DOMAIN}>\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "\r\n"
    "Hello Ann, your order {number} to Rome is on its way.\r\n"
)
TEMPLATE = """<html><body><h1>Hello {{ first_name }}</h1>
%s
<p>Your order {{ order }} to {{ city }} is on its way.</p></body></html>"""
TEXT = "Hello {{ first_name }}, your order {{ order }} to {{ city }} is on its way."


def whole_message(recipient: str, number: int, run: str, size: int = MESSAGE_BYTES) -> bytes:
    """A message of exactly ``size`` bytes, not signed, CRLF line ends, no line that begins with a dot."""
    head = HEAD.format(recipient=recipient, number=number, run=run)
    body = LINE * (1 + size // len(LINE))
    return (head + body)[: size - 2].encode() + b"\r\n"


def html_of(size: int = MESSAGE_BYTES) -> str:
    """A newsletter whose rendered, signed message is about ``size`` bytes."""
    line = '<p style="margin:0">The quick brown fox jumps over the lazy dog, and does so every single day of the year.</p>\n'
    return TEMPLATE % (line * max(1, (size - 130) // (len(line) + 12)))
