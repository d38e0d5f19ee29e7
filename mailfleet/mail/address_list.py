"""Address lists of header fields (RFC 5322 3.4, with the groups that RFC 6854 allows in From): which addresses are named.

Display names and comments are read past, not kept. Obsolete forms are read where they have one meaning only (routes, dots
in unquoted names, empty places in a list); a form that two readers might take differently is refused.
"""

from __future__ import annotations

import re

from mailfleet.base.errors import InputError
from mailfleet.mail.address import Address

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(
    rf"""(?P<space>[ \t]+)
    |(?P<quoted>{_QUOTED})
    |(?P<angle><(?:{_QUOTED}|[^<>"])*>)
    |(?P<comma>,)|(?P<colon>:)|(?P<semicolon>;)
    |(?P<word>(?:[^\x00-\x20\x7f()<>,:;"\[]|\[[^\[\]]*\])+)""",
    re.VERBOSE,
)
_COMMENT_EDGE = re.compile(r"\\.|[()]")
_ROUTE = re.compile(r"@[^:<>]*:")
MAX_ADDRESSES = 100


def parse_address_list(text: str) -> tuple[Address, ...]:
    """The addresses of an unfolded mailbox or address list, in order, those inside groups included.

    Raises ``InputError`` naming what cannot be read, also for more than 100 addresses.
    """
    found: list[Address] = []
    entry: list[tuple[str, str]] = []
    in_group = False
    for kind, token in [*_tokens(text), ("comma", ",")]:
        if kind in ("comma", "semicolon"):
            if kind == "semicolon" and not in_group:
                raise _wrong(text, "there is a semicolon that ends no group")
            found.extend(_mailbox(text, entry))
            entry, in_group = [], in_group and kind == "comma"
        elif kind == "colon":
            if in_group or not any(part in ("word", "quoted") for part, _ in entry):
                raise _wrong(text, "there is a colon that begins no group; quote the name if it is part of one")
            _check_name(text, entry)
            entry, in_group = [], True
        else:
            entry.append((kind, token))
        if len(found) > MAX_ADDRESSES:
            raise _wrong(text, f"more than {MAX_ADDRESSES} addresses are named")
    if in_group:
        raise _wrong(text, "a group is not ended by a semicolon")
    return tuple(found)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        if text[position] == "(":
            position = _after_comment(text, position)
            tokens.append(("space", " "))  # RFC 5322 3.2.2: a comment stands for white space
            continue
        match = _TOKEN.match(text, position)
        if not match:
            raise _wrong(text, f"{text[position]!r} has no place where it stands")
        tokens.append((match.lastgroup or "", match[0]))
        position = match.end()
    return tokens


def _after_comment(text: str, start: int) -> int:
    depth = 0
    for match in _COMMENT_EDGE.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth:
            return match.end()
    raise _wrong(text, "a comment is not closed")


def _mailbox(text: str, entry: list[tuple[str, str]]) -> list[Address]:
    """One place of the list: nothing, ``addr-spec``, or ``display name <addr-spec>``."""
    angles = [index for index, (kind, _) in enumerate(entry) if kind == "angle"]
    if not angles:
        written = "".join(token for _, token in entry).strip(" \t")
        if not written:
            return []
        if any(kind == "space" for kind, _ in _trimmed(entry)):
            raise _wrong(text, "an address without angle brackets has white space in it")
        return [Address.parse(written)]
    if len(angles) > 1 or any(kind != "space" for kind, _ in entry[angles[0] + 1 :]):
        raise _wrong(text, "something follows an address in angle brackets with no comma between")
    _check_name(text, entry[: angles[0]])
    inside = entry[angles[0]][1][1:-1].strip(" \t")
    route = _ROUTE.match(inside)
    return [Address.parse(inside[route.end() :] if route else inside)]


def _trimmed(entry: list[tuple[str, str]]) -> list[tuple[str, str]]:
    kinds = [index for index, (kind, _) in enumerate(entry) if kind != "space"]
    return entry[kinds[0] : kinds[-1] + 1]


def _check_name(text: str, name: list[tuple[str, str]]) -> None:
    if any(kind == "word" and "@" in token for kind, token in name):
        raise _wrong(text, "a display name has an unquoted @: some would read it as the address")
    if any(kind == "angle" for kind, _ in name):
        raise _wrong(text, "an address in angle brackets stands where a name belongs")


def _wrong(text: str, what: str) -> InputError:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return InputError(what, where=repr(shown), mend='write it as "Name" <name@domain>')
