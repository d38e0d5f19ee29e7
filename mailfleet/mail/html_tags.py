"""HTML that is a template as well: tags are hidden from the HTML parser, CSS is inlined, tags come back where they stood.

An HTML parser moves stray text out of tables and knows nothing of ``{% if %}``. So tags between elements become
comments, which may stand anywhere, and tags inside text, attributes, titles and styles become private-use letters, which
are carried as they are. Afterwards it is checked that nothing a tag depends on has moved.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import css_inline

from mailfleet.mail.template_syntax import Kind, Token

OPEN, CLOSE = "\ue0f0", "\ue0f1"
PLACE = re.compile(f"(?:<!--)?{OPEN}(\\d+){CLOSE}(?:-->)?")
_PLACE_AS_ATTRIBUTE = re.compile(f'({OPEN}\\d+{CLOSE})=""')
# A start tag is read with its quoted values, so that ">" inside them does not end it. What has no end reaches to the end
# of the text: then no piece is read twice, and reading takes time in proportion to the length.
_PIECE = re.compile(
    r"(?P<comment><!--(?:.*?-->|.*))|(?P<declaration><![^>]*(?:>|\Z))"
    r"|(?P<raw><(?P<rawname>style|script|title|textarea)\b[^>]*(?:\Z|>(?:.*?</(?P=rawname)\s*>|.*)))"
    r"|<(?P<slash>/?)(?P<name>[A-Za-z][^\s/>]*)(?P<attributes>(?:\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)|[^'\">])*)(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""([^\s"'>/=]+)(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'>]+))?""")
_EMPTY_STYLE = re.compile(r"<style\b[^>]*>\s*</style>", re.IGNORECASE)
_VOID = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()  # noqa: SIM905  # words on a line read better
)
_IMPLIED = frozenset(("style", "link"))  # inlining may drop these
_TBODY = re.compile(r"</?tbody>")
_CLOSED_BY = {  # open elements that a start tag ends, innermost first, where their end tags are left out
    **dict.fromkeys(("thead", "tbody", "tfoot"), frozenset(("p", "td", "th", "tr", "thead", "tbody", "tfoot"))),
    "tr": frozenset(("p", "td", "th", "tr")),
    **dict.fromkeys(("td", "th"), frozenset(("p", "td", "th"))),
    "li": frozenset(("p", "li")),
    **dict.fromkeys(("dt", "dd"), frozenset(("p", "dt", "dd"))),
    "p": frozenset(("p",)),
    "option": frozenset(("option",)),
}
_TABLE_PARTS = frozenset(["table", "thead", "tbody", "tfoot", "tr", "colgroup", "select"])
_TABLE_STACK = _TABLE_PARTS | {"td", "th", "caption", "option"}
_INLINER = css_inline.CSSInliner(
    keep_style_tags=True,
    remove_inlined_selectors=True,
    keep_at_rules=True,
    keep_link_tags=True,
    load_remote_stylesheets=False,
)


MAX_NESTING = 500  # native HTML code walks elements by recursion, and some thousands overrun the stack


@dataclass(frozen=True, slots=True)
class HiddenTags:
    """HTML in which ``OPEN n CLOSE`` stands for ``kept[n]``; ``blocks`` are those n that are ``{% %}`` tags."""

    html: str
    kept: tuple[str, ...]
    blocks: frozenset[int]

    def restore(self, html: str) -> str:
        """``html`` with every place filled again."""
        return PLACE.sub(lambda match: self.kept[int(match[1])], _PLACE_AS_ATTRIBUTE.sub(r"\1", html))


def hide_tags(tokens: Sequence[Token]) -> HiddenTags:
    """Put private-use letters or comments in the place of tags. The tokens' text must not contain those letters."""
    kept = [token.source for token in tokens if token.kind is not Kind.TEXT]
    blocks = {
        index
        for index, token in enumerate(token for token in tokens if token.kind is not Kind.TEXT)
        if token.kind is Kind.BLOCK
    }
    numbers = iter(range(len(kept)))
    html = "".join(token.text if token.kind is Kind.TEXT else f"{OPEN}{next(numbers)}{CLOSE}" for token in tokens)
    if not re.search(r"<(?:html|head|body|title|!doctype)\b", html, re.IGNORECASE):
        html = f"<!DOCTYPE html>\n<html><head></head><body>\n{html}\n</body></html>\n"
    out: list[str] = []
    stack: list[str] = []
    at = 0
    for match in _PIECE.finditer(html):
        out.append(_hide_in_text(html[at : match.start()], blocks, stack))
        out.append(_hide_piece(match, kept, blocks))
        _track(stack, match)
        at = match.end()
    out.append(_hide_in_text(html[at:], blocks, stack))
    return HiddenTags("".join(out), tuple(kept), frozenset(blocks))


def _hide_in_text(text: str, blocks: set[int], stack: list[str]) -> str:
    in_table = bool(stack) and stack[-1] in _TABLE_PARTS

    def hide(match: re.Match[str]) -> str:
        return f"<!--{match[0]}-->" if in_table or int(match[1]) in blocks else match[0]

    return PLACE.sub(hide, text)


def _hide_piece(match: re.Match[str], kept: list[str], blocks: set[int]) -> str:
    """Conditional declarations of Outlook, and styles with block tags in them, are kept from the parser as a whole."""
    conditional = match["declaration"] and not re.match(r"<!doctype", match[0], re.IGNORECASE)
    style = match["raw"] and match["rawname"].lower() == "style"
    if conditional or (style and any(int(number) in blocks for number in PLACE.findall(match[0]))):
        kept.append(PLACE.sub(lambda place: kept[int(place[1])], match[0]))
        return f"<!--{OPEN}{len(kept) - 1}{CLOSE}-->"
    return match[0]


def _track(stack: list[str], match: re.Match[str]) -> None:
    name = (match["name"] or "").lower()
    if name not in _TABLE_STACK:
        return
    if not match["slash"]:
        if name in ("tr", "td", "th") and stack and stack[-1] in ("td", "th"):
            stack.pop()  # end tags of cells and rows may be left out
        if name == "tr" and stack and stack[-1] == "tr":
            stack.pop()
        stack.append(name)
    elif name in stack:
        while stack.pop() != name:
            pass


def nesting(html: str) -> int:
    """The most elements that may be open at once, never less than a parser would have open.

    Only an end tag that fits the innermost element closes it, or one whose end tag may be left out.
    """
    stack: list[str] = []
    deepest = 0
    for match in _PIECE.finditer(html):
        name = (match["name"] or "").lower()
        if not name or name in _VOID:
            continue
        if not match["slash"]:
            while stack and stack[-1] in _CLOSED_BY.get(name, ()):
                stack.pop()
            stack.append(name)
            deepest = max(deepest, len(stack))
            continue
        end = len(stack) - 1
        while end >= 0 and stack[end] != name and stack[end] in _CLOSED_BY:
            end -= 1
        if end >= 0 and stack[end] == name:
            del stack[end:]
    return deepest


def inline_css(hidden: HiddenTags) -> str | None:
    """The hidden HTML with rules moved into style attributes; ``@media``, ``:hover`` and the like stay in ``<style>``.

    Nothing is loaded from anywhere. ``None`` when the result would not be the same template.
    """
    try:
        inlined = _INLINER.inline(hidden.html)
    except css_inline.InlineError:
        return None
    inlined = _EMPTY_STYLE.sub("", inlined)
    if not re.search("<tbody", hidden.html, re.IGNORECASE) and "<tbody " not in inlined:
        inlined = _TBODY.sub("", inlined)  # the parser opens one in front of the first row, which may be inside a loop
    return inlined if _same_template(hidden, inlined) else None


def _same_template(hidden: HiddenTags, inlined: str) -> bool:
    before, after = list(_outline(hidden.html)), list(_outline(inlined))
    if [item for item in before if isinstance(item, int)] != [item for item in after if isinstance(item, int)]:
        return False
    if _attributes_with_tags(hidden.html) != _attributes_with_tags(inlined):
        return False
    return before == after or _branches_balanced(hidden, after)


def _outline(html: str) -> Iterator[int | str]:
    """Numbers of hidden tags and names of element tags in order, without those that a parser adds by itself."""
    at = 0
    for match in _PIECE.finditer(html):
        yield from map(int, PLACE.findall(html[at : match.start()]))
        at = match.end()
        if match["raw"] and match["rawname"].lower() == "style":
            continue
        name = (match["name"] or "").lower()
        if name and name not in _IMPLIED and not (match["slash"] and name in _VOID):
            yield match["slash"] + name
        yield from map(int, PLACE.findall(_without_style(match["attributes"]) if name else match[0]))
    yield from map(int, PLACE.findall(html[at:]))


def _without_style(attributes: str) -> str:
    # inlining joins style attributes with rules, in which tags may be repeated or overruled
    return re.sub(r"""\bstyle\s*=\s*(?:"[^"]*"|'[^']*')""", "", attributes, flags=re.IGNORECASE)


def _attributes_with_tags(html: str) -> Counter[str]:
    """Names of attributes of all elements that have a tag among their attributes: a parser drops repeated ones."""
    found: Counter[str] = Counter()
    for match in _PIECE.finditer(html):
        if match["name"] and OPEN in match["attributes"] and match["name"].lower() not in _IMPLIED:
            found.update(
                name.lower() for (name,) in zip(_ATTRIBUTE.findall(match["attributes"])) if name.lower() != "style"
            )
    return found


def _branches_balanced(hidden: HiddenTags, outline: Sequence[int | str]) -> bool:
    """Whether each branch of each block tag opens and closes its elements itself."""
    elements: list[str] = []
    opened: list[tuple[str, ...]] = []
    for item in outline:
        if isinstance(item, str):
            if not item.startswith("/"):
                if item not in _VOID:
                    elements.append(item)
            elif elements and elements[-1] == item[1:]:
                elements.pop()
            continue
        words = hidden.kept[item].split(None, 2) if item in hidden.blocks else ["", ""]
        if words[1] in ("if", "for"):
            opened.append(tuple(elements))
        elif words[1] in ("elif", "else") or words[1].startswith("end"):
            if opened and opened[-1] != tuple(elements):
                return False
            if opened and words[1].startswith("end"):
                opened.pop()
    return True
