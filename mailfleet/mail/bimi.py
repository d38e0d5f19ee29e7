"""The logo of BIMI: SVG Tiny Portable/Secure (draft-svg-tiny-ps-abrotman), and what is wrong with a file. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from mailfleet.base.errors import InputError

MAX_BYTES = 32 * 1024  # what Gmail, Yahoo and the mark authorities take
SVG = "{http://www.w3.org/2000/svg}"
_NEVER = {
    "script",
    "image",
    "foreignObject",
    "a",
    "animate",
    "animateColor",
    "animateMotion",
    "animateTransform",
    "set",
    "video",
    "audio",
    "style",
}
_REFERS = {"href", "src", "base"}  # of any namespace
_URL = re.compile(r"url\(\s*[\"']?\s*([^)\"']*)", re.I)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?"
_BOX = re.compile(rf"\s*{_NUMBER}[\s,]+{_NUMBER}[\s,]+({_NUMBER})[\s,]+({_NUMBER})\s*", re.A)
_DECLARATION = re.compile(r"\ufeff?<\?xml\s[^>]*?\?>")
_ENCODING = re.compile(r"encoding\s*=\s*[\"']([^\"']*)")
_MEND = "export it as SVG Tiny PS, as your designer's tool or the BIMI group's converters do"


def checked_logo(data: bytes) -> str:
    """The text of a logo that receivers will take. Raises ``InputError`` naming the first thing that is wrong."""
    if len(data) > MAX_BYTES:
        raise _wrong(f"it has {len(data)} bytes: {MAX_BYTES} are the most", "simplify its paths")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _wrong("it is not UTF-8") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _wrong("it has a DOCTYPE or entities", "remove them")
    _check_instructions(text)
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no entities, and bounded
    except ElementTree.ParseError as error:
        raise _wrong(f"it is no XML: {error}") from None
    if root.tag != f"{SVG}svg":
        raise _wrong("its root is no svg element in the SVG namespace")
    for name, wanted in (("version", "1.2"), ("baseProfile", "tiny-ps")):
        if root.get(name) != wanted:
            found = root.get(name)
            what = f"is missing, and must be {wanted!r}" if found is None else f"is {found[:40]!r}, not {wanted!r}"
            raise _wrong(f"{name} {what}")
    if root.get("x") is not None or root.get("y") is not None:
        raise _wrong("the svg element has x or y", "remove them")
    title = root.find(f"{SVG}title")
    if title is None or not (title.text or "").strip():
        raise _wrong("it has no title", "add <title>NAME OF THE BRAND</title> as its first element")
    _check_shape(root)
    for element in root.iter():
        _check_element(element)
    return text


def _check_instructions(text: str) -> None:
    """The XML declaration is the only one: a style sheet could be called for by another."""
    declaration = _DECLARATION.match(text)
    if "<?" in text[declaration.end() if declaration else 0 :]:
        raise _wrong("it has a processing instruction (<?...?>)", "remove it")
    encoding = _ENCODING.search(declaration[0]) if declaration else None
    if encoding is not None and encoding[1].upper() not in ("UTF-8", "US-ASCII"):
        raise _wrong(f"it calls itself {encoding[1][:40]}, and is UTF-8", "correct its first line")


def _check_shape(root: ElementTree.Element) -> None:
    box = _BOX.fullmatch(root.get("viewBox") or "")
    if box is None or not 0 < float(box[1]) == float(box[2]):
        raise _wrong("it is not square (viewBox)", "give viewBox the same width and height")


def _check_element(element: ElementTree.Element) -> None:
    name = _short(element.tag)
    if name in _NEVER:
        raise _wrong(f"it has an element {name}, which is not allowed", "remove it")
    for attribute, value in element.attrib.items():
        bare = _short(attribute)
        if bare.lower().startswith("on"):
            raise _wrong(f"the element {name} has an attribute {bare}", "remove it")
        outside = next((one for one in _references(bare, value) if not one.startswith("#")), None)
        if outside is not None:
            what = f"the element {name} refers to {outside[:60]!r}, outside of the file ({bare})"
            raise _wrong(what, "put it into the file")


def _references(attribute: str, value: str) -> Iterator[str]:
    if attribute in _REFERS:
        yield value.strip()
    yield from _URL.findall(value)


def _short(name: str) -> str:
    """Without its namespace, and not longer than a message can bear."""
    return name.rpartition("}")[2][:60]


def _wrong(what: str, mend: str = _MEND) -> InputError:
    return InputError(what, where="logo", mend=mend)
