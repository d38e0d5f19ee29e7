"""Whether a message is signed as it says. Keys come from the records that sending domains published in the sandbox's DNS."""

from __future__ import annotations

import importlib
from typing import Any

from mailfleet.sandbox.published import Published

OK = "ok"
BAD = "bad"
ABSENT = "absent"
UNCHECKED = ""


class SignatureCheck:
    """Verifies every DKIM-Signature field of a message (RFC 6376 6)."""

    def __init__(self, published: Published) -> None:
        self._lookup = published.txt
        self._dkim: Any = None
        try:
            self._dkim = importlib.import_module("mailfleet.mail.dkim")
        except ModuleNotFoundError as error:
            if error.name != "mailfleet.mail.dkim":
                raise

    def check(self, message: bytes) -> str:
        """``ok`` when there is a signature and none fails, ``absent`` without any, else ``bad``."""
        if self._dkim is None:
            return UNCHECKED
        results = self._dkim.verify(message, self._lookup)
        if not results:
            return ABSENT
        return OK if all(result.result == "ok" for result in results) else BAD
