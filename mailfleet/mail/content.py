"""Content: compiled once per campaign or message, stored once, filled once per recipient.

Compiling inlines CSS, makes the text alternative, encodes attachments and checks every template. What is left for each
recipient is to encode the values and join the pieces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.base.errors import InputError
from mailfleet.mail.address import Address
from mailfleet.mail.content_record import ContentRecord
from mailfleet.mail.dkim_canon import relax_lines
from mailfleet.mail.encode import (
    fold_header,
    fold_words,
    format_date,
    format_mailbox,
    quoted_printable_piece,
    whole_unicode,
)
from mailfleet.mail.headers import address_field, check_custom_field, custom_field, parse_mailbox, parse_mailboxes
from mailfleet.mail.html_tags import CLOSE, MAX_NESTING, OPEN, HiddenTags, hide_tags, inline_css, nesting
from mailfleet.mail.html_text import html_to_text
from mailfleet.mail.mime import encode_attachment, lay_out
from mailfleet.mail.template import Template
from mailfleet.mail.template_syntax import Kind, Token, tokenize
from mailfleet.mail.template_tree import Slot

MAX_INLINED = 1_000_000  # characters of HTML; above it CSS stays as it is
_WHITE = re.compile(r"[ \t\r\n]+")
_STYLE = re.compile("<style[\\s>]", re.IGNORECASE)
_CID = re.compile(r"""cid:([^"'\s)>]+)""")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file. With ``content_id`` it is an inline image that the HTML names as ``cid:content_id``."""

    filename: str
    content_type: str
    data: bytes
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class ContentSource:
    """What the author gave. At least one of ``html`` and ``text`` is set.

    ``sender`` and ``reply_to`` are mailboxes; ``to`` and ``cc`` are fixed, and with ``to`` empty the recipient stands in To.
    Unless ``templated`` is false, ``sender``, ``reply_to``, ``subject``, header values and both texts are templates.
    """

    sender: str
    subject: str
    html: str | None
    text: str | None
    reply_to: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    templated: bool = True
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()


class FilledMessage(NamedTuple):
    """One recipient's copy. ``parts`` are runs of whole fields, each ending CRLF; the message is ``header + CRLF + body``.

    ``relaxed_body`` is what DKIM hashes (see ``dkim.digest_of_relaxed``); ``dotted``: a line of the body may begin with a dot.
    ``smtputf8``: an address in the header has a local-part outside ASCII, so the server must offer SMTPUTF8 (RFC 6531 3.2).
    ``eightbit``: there are bytes above 127, so it must offer 8BITMIME; only ever because of such an address.
    """

    parts: tuple[bytes, ...]
    body: bytes
    relaxed_body: bytes
    dotted: bool
    smtputf8: bool
    eightbit: bool

    @property
    def header(self) -> bytes:
        """Every field."""
        return b"".join(self.parts)

    def __bytes__(self) -> bytes:
        return b"".join((self.header, b"\r\n", self.body))


class CompiledContent:
    """Content ready to be filled. Made by ``compile_content`` or ``from_bytes``. Not for two threads at once."""

    def __init__(self, record: ContentRecord) -> None:
        self._record = record
        templated = record.templated
        self.warnings: tuple[str, ...] = record.warnings
        self._sender = Template(record.sender, where="sender", templated=templated)
        self._reply_to = Template(record.reply_to, where="reply_to", templated=templated)
        self._subject = Template(record.subject, where="subject", templated=templated)
        self._custom = [
            (name, Template(value, where=f"header {name}", templated=templated)) for name, value in record.headers
        ]
        bodies: dict[str, Template] = {}
        if record.text is not None:
            bodies["text"] = Template(record.text, where="text", body=True, templated=templated)
        if record.html is not None:
            bodies["html"] = Template(record.html, where="html", html=True, body=True, templated=templated)
        layout = lay_out([slot for slot in ("text", "html") if slot in bodies], record.parts, record.boundary_seed)
        self._templates = (
            self._sender,
            self._reply_to,
            self._subject,
            *(template for _, template in self._custom),
            *bodies.values(),
        )
        self.variables: frozenset[str] = frozenset().union(*(template.variables for template in self._templates))
        self._simple = all(template.slots is not None for template in self._templates)
        self._content_fields = b"MIME-Version: 1.0\r\n" + layout.fields
        self._prepare_body([bodies[part] if isinstance(part, str) else part for part in layout.segments])
        self._prepare_header()

    def _prepare_body(self, segments: Sequence[bytes | Template]) -> None:
        """Flatten to a list of pieces in which only the places of values are empty."""
        self._pieces: list[bytes] = []
        self._rendered: list[tuple[int, Template]] = []
        slots: dict[Slot, list[int]] = {}
        for segment in segments:
            if isinstance(segment, bytes):
                self._pieces.append(segment)
            elif segment.slots is None:
                self._rendered.append((len(self._pieces), segment))
                self._pieces.append(b"")
            else:
                for piece in segment.slots:
                    if isinstance(piece, Slot):
                        slots.setdefault(piece, []).append(len(self._pieces))
                    self._pieces.append(b"" if isinstance(piece, Slot) else quoted_printable_piece(piece))
        # Every piece begins and ends a line, so what DKIM and SMTP make of lines is known piece by piece.
        self._relaxed_pieces = [
            (place, relaxed) for place, piece in enumerate(self._pieces) if (relaxed := relax_lines(piece)) != piece
        ]
        self._dotted = any(map(_dotted, self._pieces))
        self._slots = [(slot, tuple(places)) for slot, places in slots.items()]

    def _prepare_header(self) -> None:
        record = self._record
        self._fixed_to = self._fixed_cc = b""
        if record.to:
            self._fixed_to = address_field("To", tuple(parse_mailbox(item, where="to") for item in record.to))
        if record.cc:
            self._fixed_cc = address_field("Cc", tuple(parse_mailbox(item, where="cc") for item in record.cc))
        self._fixed_from = self._from({}) if self._sender.static else None
        self._fixed_reply_to = self._reply_to_field({}) if self._reply_to.static else None
        self._fixed_subject = self._subject_field({}) if self._subject.static else None
        self._fixed_custom = self._custom_fields({}) if all(template.static for _, template in self._custom) else None

    def to_bytes(self) -> bytes:
        """What the store keeps; ``from_bytes`` reads it back."""
        return self._record.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> CompiledContent:
        """The content that ``to_bytes`` wrote. Raises ``InputError`` for bytes of another version."""
        return cls(ContentRecord.from_bytes(data))

    def check(self, fields: Mapping[str, object]) -> list[str]:
        """Names of the undefined variables that this recipient's copy would meet; empty when it can be filled.

        A field that is ``None`` counts as absent. Raises ``InputError`` when filling fails for another reason.
        """
        if self._simple and None not in map(fields.get, self.variables):
            return []
        return list(dict.fromkeys(name for template in self._templates for name in template.undefined(fields)))

    def fill(
        self,
        fields: Mapping[str, object],
        *,
        recipient: Address,
        display_name: str = "",
        message_id: str,
        date_ms: int,
        extra_headers: Sequence[tuple[str, str]] = (),
    ) -> FilledMessage:
        """One recipient's copy, not yet signed.

        ``message_id`` comes with its angle brackets. ``extra_headers`` are the engine's own fields, not screened. Raises
        ``UndefinedVariableError`` and, when a value makes a template or an address fail, ``InputError``.
        """
        assert re.fullmatch(r"<[!-;=?-~]+>", message_id), message_id
        parts = (
            b"Date: %b\r\n" % format_date(date_ms).encode("ascii"),
            self._fixed_from if self._fixed_from is not None else self._from(fields),
            self._fixed_to or fold_words("To", format_mailbox(display_name, recipient)),
            self._fixed_cc,
            self._fixed_reply_to if self._fixed_reply_to is not None else self._reply_to_field(fields),
            self._fixed_subject if self._fixed_subject is not None else self._subject_field(fields),
            b"Message-ID: %b\r\n" % message_id.encode("ascii"),
            self._fixed_custom if self._fixed_custom is not None else self._custom_fields(fields),
            *[custom_field(name, value) for name, value in extra_headers],
            self._content_fields,
        )
        utf8 = not all(map(bytes.isascii, parts))
        return FilledMessage(parts, *self._body(fields), utf8, utf8)

    def _from(self, fields: Mapping[str, object]) -> bytes:
        return address_field("From", (parse_mailbox(self._sender.render(fields), where="sender"),))

    def _reply_to_field(self, fields: Mapping[str, object]) -> bytes:
        reply_to = self._reply_to.render(fields).strip()
        return address_field("Reply-To", parse_mailboxes(reply_to, where="reply_to")) if reply_to else b""

    def _subject_field(self, fields: Mapping[str, object]) -> bytes:
        return fold_header("Subject", _WHITE.sub(" ", self._subject.render(fields)))

    def _custom_fields(self, fields: Mapping[str, object]) -> bytes:
        return b"".join(
            [custom_field(name, _WHITE.sub(" ", template.render(fields))) for name, template in self._custom]
        )

    def _body(self, fields: Mapping[str, object]) -> tuple[bytes, bytes, bool]:
        """The body, the same with its lines relaxed, and whether one of them may begin with a dot."""
        pieces = self._pieces.copy()
        changed: list[tuple[Sequence[int], bytes]] = []  # what relaxing makes of values that it changes
        dotted = self._dotted
        for slot, places in self._slots:
            encoded = slot.encoded(fields)
            dotted = dotted or _dotted(encoded)
            for place in places:
                pieces[place] = encoded
            if b"  " in encoded or b" \r" in encoded or b"\t" in encoded:
                changed.append((places, relax_lines(encoded)))
        for place, template in self._rendered:
            pieces[place] = template.render_encoded(fields)
            changed.append(((place,), relax_lines(pieces[place])))
            dotted = True  # nobody looks: it costs more than stuffing
        body = b"".join(pieces)
        if not changed and not self._relaxed_pieces:
            return body, body, dotted
        for place, piece in self._relaxed_pieces:
            pieces[place] = piece
        for several, piece in changed:
            for place in several:
                pieces[place] = piece
        return body, b"".join(pieces), dotted


def _dotted(piece: bytes) -> bool:
    return piece.startswith(b".") or b"\n." in piece


def compile_content(source: ContentSource, *, boundary_seed: str) -> CompiledContent:
    """Compile what the author gave. The same source and seed give the same bytes.

    Raises ``InputError`` whose ``where`` is the part and, in a template, the line: ``subject line 1``, ``html line 12``,
    ``header X-Foo``, ``sender``, ``attachment 'a.pdf'``. What could be mended is told in ``warnings``.
    """
    if source.html is None and source.text is None:
        raise InputError("there is neither HTML nor text", where="content", mend="give html, text or both")
    for name, _ in source.headers:
        check_custom_field(name)
    if not source.sender.strip():
        raise InputError("there is no sender", where="sender", mend="give an address of one of your sending domains")
    html, text = source.html, source.text
    warnings: list[str] = []
    if html is not None:
        html, made, warnings = _compile_html(whole_unicode(html), source.templated, with_text=text is None)
        text = made if text is None else text
    parts = tuple(
        encode_attachment(item.filename, item.content_type, item.data, item.content_id) for item in source.attachments
    )
    warnings += _image_warnings(source)
    return CompiledContent(
        ContentRecord(
            sender=whole_unicode(source.sender),
            subject=whole_unicode(source.subject),
            html=html,
            text=None if text is None else whole_unicode(text),
            reply_to=whole_unicode(source.reply_to),
            headers=tuple((name, whole_unicode(value)) for name, value in source.headers),
            templated=source.templated,
            to=tuple(map(whole_unicode, source.to)),
            cc=tuple(map(whole_unicode, source.cc)),
            boundary_seed=boundary_seed,
            warnings=tuple(warnings),
            parts=parts,
        )
    )


def _compile_html(html: str, templated: bool, *, with_text: bool) -> tuple[str, str | None, list[str]]:
    """The HTML with CSS inlined, the text made from it (or ``None``), and warnings. Raises ``InputError`` with the author's lines."""
    Template(html, where="html", html=True, body=True, templated=templated)
    styled = _STYLE.search(html) is not None
    if not styled and not with_text:
        return html, None, []
    unfit = _unfit(html)
    hidden = hide_tags(tokenize(html, "html") if templated else [Token(Kind.TEXT, html)]) if not unfit else None
    if hidden is None or nesting(hidden.html) > MAX_NESTING:
        unfit = unfit or f"nests elements more than {MAX_NESTING} deep (are end tags missing?)"
        lost = "CSS is not inlined and no text part is made" if with_text else "CSS is not inlined"
        return html, None, [f"html: {lost}, because the HTML {unfit}"]
    warnings: list[str] = []
    inlined = inline_css(hidden) if styled else None
    if styled and inlined is None:
        warnings.append(
            "html: CSS is not inlined, because template tags and elements are not nested in each other; "
            "put whole elements into each branch of {% if %} and {% for %}"
        )
    text = _make_text(inlined or hidden.html, hidden, templated, warnings) if with_text else None
    return (html if inlined is None else hidden.restore(inlined)), text, warnings


def _unfit(html: str) -> str:
    if len(html) > MAX_INLINED:
        return f"is longer than {MAX_INLINED} characters"
    return "uses the private letters U+E0F0 or U+E0F1" if OPEN in html or CLOSE in html else ""


def _make_text(html: str, hidden: HiddenTags, templated: bool, warnings: list[str]) -> str | None:
    text = html_to_text(html, hidden)
    try:
        Template(text, where="text", body=True, templated=templated)
    except InputError:
        warnings.append("text: no text part could be made from this HTML; give one of your own")
        return None
    return text


def _image_warnings(source: ContentSource) -> list[str]:
    given = {item.content_id for item in source.attachments if item.content_id}
    named = set(_CID.findall(source.html or ""))
    warnings = [
        f"html: the image cid:{name} is not among the attachments" for name in sorted(named - given) if "{" not in name
    ]
    if not any("{" in name for name in named):
        warnings += [f"attachment: nothing in the HTML names cid:{name}" for name in sorted(given - named)]
    return warnings
