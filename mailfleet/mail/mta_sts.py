"""MTA-STS (RFC 8461): the record that says a domain has a policy, and the policy. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mailfleet.base.errors import MailfleetError

VERSION = "STSv1"
MAX_POLICY_BYTES = 64 * 1024  # RFC 8461 3.3
MAX_AGE_S = 31_557_600  # RFC 8461 3.2: a year is the most
WELL_KNOWN = "/.well-known/mta-sts.txt"
Mode = Literal["enforce", "testing", "none"]
_RECORD = re.compile(r"v=STSv1\s*;\s*(.*)", re.S)
_FIELD = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9_.-]{0,31})\s*=\s*([^;=\s]+)\s*")
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_MX = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


class MtaStsSyntaxError(MailfleetError):
    """A record or policy that RFC 8461 does not allow; the message says what."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """``mx``: names of mail hosts, ``*.`` before one stands for one label. ``max_age_s``: how long it holds."""

    mode: Mode
    mx: tuple[str, ...]
    max_age_s: int

    def __str__(self) -> str:
        lines = [f"version: {VERSION}", f"mode: {self.mode}", *(f"mx: {one}" for one in self.mx)]
        return "\r\n".join([*lines, f"max_age: {self.max_age_s}", ""])

    @property
    def number(self) -> str:
        """An id for it (RFC 8461 3.1): another one when anything in it changes."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:20]

    def allows(self, host: str) -> bool:
        """Whether mail may go to a mail host (RFC 8461 4.1)."""
        name = host.lower().rstrip(".")
        return any(_matches(name, pattern) for pattern in self.mx)


def policy_id(records: Sequence[str]) -> str | None:
    """The id of the domain's policy by its TXT records; None where there is no policy (RFC 8461 3.1: not exactly one record)."""
    found = [text for text in records if text.startswith("v=STSv1")]
    if len(found) != 1:
        return None
    whole = _RECORD.fullmatch(found[0].strip())
    if whole is None:
        return None
    fields: dict[str, str] = {}
    for part in whole[1].split(";"):
        if not part.strip():
            continue
        field = _FIELD.fullmatch(part)
        if field is None:
            return None
        fields.setdefault(field[1], field[2])
    number = fields.get("id", "")
    return number if _ID.fullmatch(number) else None


def parse_policy(text: str) -> StsPolicy:
    """Raises ``MtaStsSyntaxError``."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise MtaStsSyntaxError(f"{line[:60]!r} is no field: write name: value")
        fields.setdefault(name.strip(), []).append(value.strip())
    if fields.get("version", [""])[0] != VERSION:
        raise MtaStsSyntaxError(f"version is not {VERSION}")
    mode = fields.get("mode", [""])[0]
    if mode not in ("enforce", "testing", "none"):
        raise MtaStsSyntaxError(f"mode {mode[:40]!r} is none of enforce, testing, none")
    age = fields.get("max_age", [""])[0]
    if not (age.isascii() and age.isdigit()) or len(age) > 10:
        raise MtaStsSyntaxError(f"max_age {age[:40]!r} is no number of seconds")
    hosts = tuple(one.lower().rstrip(".") for one in fields.get("mx", []))
    wrong = next((one for one in hosts if not _MX.fullmatch(one)), None)
    if wrong is not None:
        raise MtaStsSyntaxError(f"mx {wrong[:60]!r} is no host name")
    if mode != "none" and not hosts:
        raise MtaStsSyntaxError("it names no mail host (mx)")
    return StsPolicy(mode, hosts, min(int(age), MAX_AGE_S))  # type: ignore[arg-type]  # one of the three


def _matches(name: str, pattern: str) -> bool:
    if not pattern.startswith("*."):
        return name == pattern
    _, _, rest = name.partition(".")
    return rest == pattern[2:]
