"""What every kind of recipient list shares: the row, the names of columns, the reading of the address cell. No syntax is here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailfleet.base.errors import InputError, Problem
from mailfleet.mail.address import Address

MAX_ROW_BYTES = 256 * 1024
MAX_CELL_BYTES = 64 * 1024
MAX_COLUMNS = 200

# Letters and digits of a column's name, casefolded, best first: where a list has both "email" and "address", the latter
# is where somebody lives.
_ADDRESS_NAMES = (
    "email",
    "emailaddress",
    "mail",
    "mailaddress",
    "emailadresse",
    "adresseemail",
    "correoelectronico",
    "courriel",
    "recipient",
    "recipientaddress",
    "to",
    "address",
)
_NAMED_ADDRESS = re.compile(r"\s*(?P<name>[^<]*?)\s*<(?P<address>[^<>]*)>")


@dataclass(frozen=True, slots=True)
class RecipientRow:
    """One row of a recipient list. ``line`` is the 1-based physical line (or record number for JSON) it started on.

    ``address`` is a valid addr-spec as it was written, without a display name. ``fields`` holds every column by its
    header name, the address column included; a column missing from this row is absent. A column whose name is no template
    variable (``First name``) is there a second time as one (``first_name``).
    """

    line: int
    address: str
    fields: Mapping[str, object]


def alias_of(name: str) -> str:
    """The template variable for a column: ``First name`` -> ``first_name``. Empty when ``name`` is one already, or cannot be."""
    if name.isidentifier():
        return ""
    alias = re.sub(r"\W+", "_", name).strip("_").lower()
    return alias if alias.isidentifier() else ""


def aliases_of(names: Sequence[str]) -> dict[str, str]:
    """Alias -> column, without those that another column has as its name or its alias."""
    found: dict[str, str] = {}
    taken = set(names)
    for name in names:
        alias = alias_of(name)
        if alias and alias not in taken:
            found[alias] = name
        elif alias in found:
            del found[alias]
        taken.add(alias)
    return found


def find_address_column(names: Sequence[str], wanted: str) -> str | None:
    """Which column holds the address: the one called ``wanted`` if given, else the likeliest name. Letter case is no matter."""
    if wanted:
        folded = wanted.strip().casefold()
        return next((name for name in names if name == wanted), None) or next(
            (name for name in names if name.casefold() == folded), None
        )
    by_letters: dict[str, str] = {}
    for name in names:
        by_letters.setdefault("".join(letter for letter in name.casefold() if letter.isalnum()), name)
    return next((by_letters[likely] for likely in _ADDRESS_NAMES if likely in by_letters), None)


def named_address(cell: str) -> tuple[str, str]:
    """``Ann Lee <ann@example.org>`` -> (``Ann Lee``, ``ann@example.org``); a bare address has the name ``""``."""
    named = _NAMED_ADDRESS.fullmatch(cell) if cell.endswith(">") else None
    if named is None:
        return "", cell
    name = named["name"]
    if len(name) >= 2 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return name.strip(), named["address"].strip()


def row_of(line: int, column: str, cell: object, fields: dict[str, object]) -> RecipientRow | Problem:
    """Judge the address and make the row; ``fields`` gets ``name`` from a display name where it has none."""
    if cell is None or cell == "":
        return Problem(
            line, "missing-address", "there is no address in this row", mend="add one or remove the row", field=column
        )
    if not isinstance(cell, str):
        return Problem(
            line,
            "bad-address",
            "the address is not text",
            mend="write it as name@domain",
            field=column,
            value=repr(cell)[:80],
        )
    name, address = named_address(cell.strip())
    try:
        Address.parse(address)
    except InputError as error:
        return Problem(line, "bad-address", error.what, mend=error.mend, field=column, value=shortened(cell))
    if name and not fields.get("name"):
        fields["name"] = name
    return RecipientRow(line, address, fields)


def shortened(text: str, limit: int = 80) -> str:
    """``text`` as it may be shown in a problem: bounded, undecodable bytes replaced."""
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def bad_byte(line: int, value: int, shown: str) -> Problem:
    """A byte that UTF-8 does not have there."""
    return Problem(
        line,
        "bad-utf8",
        f"byte 0x{value:02X} is not valid UTF-8 here",
        mend="save the list as UTF-8; it looks like Latin-1 or Windows-1252",
        value=shortened(shown),
    )


def too_long(line: int) -> Problem:
    """A row above ``MAX_ROW_BYTES``."""
    return Problem(
        line,
        "row-too-long",
        f"the row is longer than {MAX_ROW_BYTES // 1024} KiB",
        mend="shorten it; content that is the same for everybody belongs in the template",
    )


def nul(line: int, shown: str) -> Problem:
    """A NUL, which no mail can carry (RFC 5322 2.2 and 4)."""
    return Problem(line, "nul", "the row has a NUL character", mend="remove it", value=shortened(shown))
