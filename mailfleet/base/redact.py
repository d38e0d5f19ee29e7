"""Text that is shown to people, without what only the program may know."""

from __future__ import annotations

import re

_URL_SECRET = re.compile(r"(\w+://[^\s:/@]*):[^\s/]*@|([?&]password=)[^&\s'\"]*")


def without_passwords(text: str) -> str:
    """The text with the password of every URL in it replaced by ``***``."""
    return _URL_SECRET.sub(lambda found: f"{found[1]}:***@" if found[1] is not None else f"{found[2]}***", text)
