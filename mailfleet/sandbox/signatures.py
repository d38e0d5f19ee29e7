"""Whether a message is signed as it says. Keys come from the records that sending domains published in the sandbox's DNS."""

from __future__ import annotations

from mailfleet.base.errors import InputError
from mailfleet.mail import dkim
from mailfleet.sandbox.published import Published

OK = "ok"
BAD = "bad"
ABSENT = "absent"


class SignatureCheck:
    """Verifies every DKIM-Signature field of a message (RFC 6376 6)."""

    def __init__(self, published: Published) -> None:
        self._lookup = published.txt

    def check(self, message: bytes, now_ms: int) -> str:
        """``ok`` when there is a signature and none fails, ``absent`` without any, else ``bad``."""
        try:
            results = dkim.verify(message, self._lookup, now_ms=now_ms)
        except InputError:
            return BAD  # a header that cannot be read cannot be verified
        if not results:
            return ABSENT
        return OK if all(result.result == "ok" for result in results) else BAD
