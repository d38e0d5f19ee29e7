"""The text alternative of an HTML part: what a person would read, as plain lines of at most 78 columns.

Works on HTML whose template tags are hidden (``html_tags``), and leaves the hidden places where they belong, so the text
is a template as well.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from mailfleet.mail.html_tags import PLACE, HiddenTags

MAX_COLUMNS = 78
_VALUE_COLUMNS = 10  # what a {{ tag }} is taken to fill in
_MAX_DEPTH = 150  # three calls each, and Python stops at a thousand
_SKIPPED = frozenset(
    "head script style title template noscript object iframe svg".split()  # noqa: SIM905  # words on a line read better
)
_PARAGRAPHS = frozenset(
    "p h1 h2 h3 h4 h5 h6 ul ol dl blockquote pre table figure section article header footer".split()  # noqa: SIM905  # words on a line read better
)
_LINES = frozenset(
    "div li tr dt dd address center main nav aside form figcaption caption thead tbody tfoot body html".split()  # noqa: SIM905  # words on a line read better
)
# Not font-size:0, which layouts put around columns to close the gaps between them
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all"
    r"|max-height\s*:\s*0(?![.\d]*[1-9])|opacity\s*:\s*0(?![.\d]*[1-9])"
)
_SPACES = re.compile(r"[ \t\r\n\f]+")
_NO_SPACE = (
    "\u00ad\u200b\u200c\u2060\ufeff\u034f\u2007"  # fillers that push the preheader's neighbours out of the preview
)
_FILLER = re.compile(f"[{_NO_SPACE}]")


@dataclass(slots=True)
class _Writer:
    """Lines of words. A break is remembered and written when the next word comes, so that tags stay on their side of it."""

    blocks: frozenset[int]
    lines: list[str] = field(default_factory=lambda: [""])
    width: int = 0  # columns of the last line
    owed: int = 0  # line ends owed before the next word
    given: int = 2  # line ends written since the last word
    space: bool = False  # a space is owed before the next word
    prefix: str = ""  # quote marks and indent of each line
    marker: str = ""  # list marker owed to the next line

    def end_line(self, count: int = 1) -> None:
        self.owed = max(self.owed, count)
        self.space = False

    def _pay(self) -> None:
        while self.given < self.owed:
            self.lines.append("")
            self.given += 1
        self.owed = 0

    def text(self, text: str) -> None:
        """Running text: white space collapses, words wrap, hidden block tags take no room."""
        text = _FILLER.sub("", text)
        for part in re.split(r"([ \t\r\n\f]+)", text):
            if not part:
                continue
            if _SPACES.fullmatch(part) or not part.strip("\xa0"):
                self.space = self.space or (self.given == 0 and self.owed == 0)
            else:
                self.word(part)

    def word(self, word: str) -> None:
        self._pay()
        if not self._visible(word):
            self.lines[-1] += (" " if self.space else "") + word
            self.width += self.space
            self.space = False
            return
        columns = self.columns(word)
        if self.given:
            self._start_line()
        elif self.space and self.width + 1 + columns > MAX_COLUMNS:
            self.lines.append("")
            self._start_line()
        elif self.space:
            self.lines[-1] += " "
            self.width += 1
        self.lines[-1] += word
        self.width += columns
        self.space, self.given = False, 0

    def _start_line(self) -> None:
        start = self.prefix[: len(self.prefix) - len(self.marker)] + self.marker if self.marker else self.prefix
        self.marker = ""
        self.lines[-1] += start
        self.width = len(start)

    def tag(self, place: str) -> None:
        """A hidden block tag that stands between elements."""
        self._pay()
        if self.space:
            self.lines[-1] += " "
            self.width, self.space = self.width + 1, False
        self.lines[-1] += place

    def verbatim(self, line: str) -> None:
        """One line of preformatted text."""
        self._pay()
        self.lines[-1] += self.prefix + line
        self.given, self.space = 0, False

    def _visible(self, word: str) -> bool:
        return any(int(number) not in self.blocks for number in PLACE.findall(word)) or bool(PLACE.sub("", word))

    def columns(self, word: str) -> int:
        values = sum(int(number) not in self.blocks for number in PLACE.findall(word))
        letters = PLACE.sub("", word)
        if letters.isascii():
            return len(letters) + values * _VALUE_COLUMNS
        wide = sum(
            2 if unicodedata.east_asian_width(letter) in "WF" else not unicodedata.combining(letter)
            for letter in letters
        )
        return wide + values * _VALUE_COLUMNS


def html_to_text(html: str, hidden: HiddenTags) -> str:
    """The text of ``html``, which is ``hidden.html`` or the inlined form of it, with the template tags restored.

    Hidden elements (preheaders), scripts and styles are left out; links become ``text (url)``.
    """
    writer = _Writer(hidden.blocks)
    tree = LexborHTMLParser(html)
    root = tree.body or tree.root
    if root is not None:
        _walk(root, writer, 0)
    text = "\n".join(line.rstrip(" ") for line in writer.lines).strip("\n")
    return PLACE.sub(lambda match: hidden.kept[int(match[1])], text) + "\n"


def _children(node: LexborNode) -> list[LexborNode]:
    found = []
    child = node.child
    while child is not None:
        found.append(child)
        child = child.next
    return found


def _walk(node: LexborNode, writer: _Writer, depth: int) -> None:
    for child in _children(node):
        tag = child.tag or ""
        if tag == "-text":
            writer.text(child.text_content or "")
        elif tag == "-comment":
            _comment(child, writer)
        elif tag[:1] not in ("-", "!") and tag not in _SKIPPED and depth < _MAX_DEPTH and not _is_hidden(child):
            _element(child, tag, writer, depth + 1)


def _comment(node: LexborNode, writer: _Writer) -> None:
    place = PLACE.fullmatch((node.comment_content or "").strip())
    if place is None:
        return
    if int(place[1]) in writer.blocks:
        writer.tag(place[0])
    else:
        writer.word(place[0])


def _is_hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    return "hidden" in attributes or bool(_HIDDEN.search((attributes.get("style") or "").lower()))


def _element(node: LexborNode, tag: str, writer: _Writer, depth: int) -> None:
    special = _SPECIAL.get(tag)
    margin = 2 if tag in _PARAGRAPHS else 1 if tag in _LINES else 0
    if (tag == "table" and not _is_data_table(node)) or (tag in ("ul", "ol") and writer.prefix.endswith("  ")):
        margin = 1
    if margin:
        writer.end_line(margin)
    if special is not None:
        special(node, writer, depth)
    else:
        _walk(node, writer, depth)
    if margin:
        writer.end_line(margin)


def _is_data_table(node: LexborNode) -> bool:
    return node.css_first("th") is not None


def _break(node: LexborNode, writer: _Writer, depth: int) -> None:
    writer.end_line(1 if writer.owed == 0 and writer.given == 0 else min(writer.owed + writer.given + 1, 2))


def _rule(node: LexborNode, writer: _Writer, depth: int) -> None:
    writer.end_line(2)
    writer.word("-" * 40)
    writer.end_line(2)


def _image(node: LexborNode, writer: _Writer, depth: int) -> None:
    writer.text(f" {node.attributes.get('alt') or ''} ")


def _link(node: LexborNode, writer: _Writer, depth: int) -> None:
    url = (node.attributes.get("href") or "").strip()
    lines, end = len(writer.lines), len(writer.lines[-1])
    _walk(node, writer, depth)
    written = " ".join([writer.lines[lines - 1][end:], *writer.lines[lines:]]).strip()
    if not url or url.startswith("#") or url.lower().startswith("javascript:"):
        return
    shown = re.sub(r"^(?:mailto|tel):", "", url, flags=re.IGNORECASE)
    if PLACE.sub("", written) == "" and not PLACE.search(written):
        writer.text(_one_word(shown))
    elif shown.rstrip("/") not in (
        written.rstrip("/"),
        "https://" + written.rstrip("/"),
        "http://" + written.rstrip("/"),
    ):
        writer.space = True
        writer.text(f"({_one_word(shown)})")


def _one_word(url: str) -> str:
    return _SPACES.sub("%20", url)


def _list(node: LexborNode, writer: _Writer, depth: int) -> None:
    numbered = node.tag == "ol" and not any(child.tag == "-comment" for child in _children(node))
    outer = writer.prefix
    number = 0
    for child in _children(node):
        if child.tag == "-comment":
            _comment(child, writer)
        elif child.tag == "li" and not _is_hidden(child):
            number += 1
            marker = f"{number}. " if numbered else "- "
            writer.end_line(1)
            writer.prefix, writer.marker = outer + " " * len(marker), marker
            _walk(child, writer, depth)
            writer.prefix, writer.marker = outer, ""
            writer.end_line(1)
        elif child.tag in ("ul", "ol"):
            _list(child, writer, depth + 1)


def _quote(node: LexborNode, writer: _Writer, depth: int) -> None:
    outer, writer.prefix = writer.prefix, writer.prefix + "> "
    _walk(node, writer, depth)
    writer.prefix = outer


def _heading(node: LexborNode, writer: _Writer, depth: int) -> None:
    lines = len(writer.lines)
    _walk(node, writer, depth)
    longest = max(writer.columns(line) for line in writer.lines[lines:] or writer.lines[-1:])
    if longest and writer.given == 0:
        writer.end_line(1)
        writer.word(("=" if node.tag == "h1" else "-") * min(longest, MAX_COLUMNS - len(writer.prefix)))


def _preformatted(node: LexborNode, writer: _Writer, depth: int) -> None:
    for line in node.text(deep=True).strip("\n").split("\n"):
        writer.end_line(1)
        writer.verbatim(line)


def _cell(node: LexborNode, writer: _Writer, depth: int) -> None:
    """Cells of a data table stand side by side; those of a layout table are lines of their own."""
    row = node.parent
    table = row.parent if row is not None else None
    while table is not None and table.tag != "table":
        table = table.parent
    side_by_side = table is not None and _is_data_table(table)
    if not side_by_side:
        writer.end_line(1)
    elif writer.given == 0 and writer.owed == 0:
        writer.text(" | ")
    _walk(node, writer, depth)
    if not side_by_side:
        writer.end_line(1)


_SPECIAL = {
    "a": _link,
    "blockquote": _quote,
    "br": _break,
    "h1": _heading,
    "h2": _heading,
    "hr": _rule,
    "img": _image,
    "ol": _list,
    "pre": _preformatted,
    "td": _cell,
    "th": _cell,
    "ul": _list,
}
