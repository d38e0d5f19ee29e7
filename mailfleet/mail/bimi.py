"""The logo of BIMI: SVG Tiny Portable/Secure (draft-svg-tiny-ps-abrotman), and what is wrong with a file. Pure."""

from __future__ import annotations

from xml.etree import ElementTree

from mailfleet.base.errors import InputError

MAX_BYTES = 32 * 1024  # what Gmail, Yahoo and the mark authorities take
SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
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
}
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
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no entities, and bounded
    except ElementTree.ParseError as error:
        raise _wrong(f"it is no XML: {error}") from None
    if root.tag != f"{SVG}svg":
        raise _wrong("its root is no svg element in the SVG namespace")
    for name, wanted in (("version", "1.2"), ("baseProfile", "tiny-ps")):
        if root.get(name) != wanted:
            raise _wrong(f"{name} is {root.get(name, 'missing')!r}, not {wanted!r}")
    if root.get("x") is not None or root.get("y") is not None:
        raise _wrong("the svg element has x or y", "remove them")
    title = root.find(f"{SVG}title")
    if title is None or not (title.text or "").strip():
        raise _wrong("it has no title", "add <title>NAME OF THE BRAND</title> as its first element")
    _check_shape(root)
    for element in root.iter():
        _check_element(element)
    return text


def _check_shape(root: ElementTree.Element) -> None:
    box = (root.get("viewBox") or "").replace(",", " ").split()
    if len(box) != 4 or box[2] != box[3]:
        raise _wrong("it is not square (viewBox)", "give viewBox the same width and height")


def _check_element(element: ElementTree.Element) -> None:
    name = str(element.tag).rpartition("}")[2]
    if name in _NEVER:
        raise _wrong(f"it has an element {name}, which is not allowed", "remove it")
    for attribute, value in element.attrib.items():
        bare = attribute.rpartition("}")[2]
        if bare.lower().startswith("on"):
            raise _wrong(f"the element {name} has an attribute {bare}", "remove it")
        if attribute in (_LINK, "href") and not value.startswith("#"):
            raise _wrong(f"the element {name} refers to {value[:60]}, outside of the file", "put it into the file")
        if "url(" in value.replace(" ", "") and "url(#" not in value.replace(" ", ""):
            raise _wrong(f"the element {name} refers outside of the file ({bare})", "put it into the file")


def _wrong(what: str, mend: str = _MEND) -> InputError:
    return InputError(what, where="logo", mend=mend)
