"""How the words of a reply are compared with the phrases of a rule, fast: text in, indexes of matching phrases out.

Replies come with line breaks anywhere, with punctuation of every taste, with addresses, IP addresses and ids between the
words. So both sides are reduced to words: letter case, punctuation and mail addresses are dropped. A phrase is a run of
words that must stand together. ``...`` between words lets up to ``GAP_CHARS`` characters of others stand there; a ``*``
at the end of a word lets it go on (``rl0000*``). Words of scripts written without blanks match anywhere inside a run.
There are no regular expressions in rules, so no rule can be slow on any input.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mailfleet.smtp.reply import Reply

GAP_CHARS = 80
MAX_TEXT_CHARS = 2000  # 512 octets a line (RFC 5321 4.5.3.1.5), some lines

_WORD = re.compile(r"[^\W_]+")
_PHRASE_WORD = re.compile(r"[^\W_]+\*?|\.\.\.")
_AROUND_ADDRESS = str.maketrans(dict.fromkeys("<>()[]:;,", " "))
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")  # Thai, Lao, Han, kana, Hangul
_STATUS_AHEAD = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\s")


def words_of(reply: Reply) -> list[str]:
    """The words of all lines in lower case; the enhanced status that each line repeats (RFC 2034 4) is taken once."""
    lines = list(reply.lines[:1])
    lines += [line[ahead.end() :] if (ahead := _STATUS_AHEAD.match(line)) else line for line in reply.lines[1:]]
    text = " ".join(lines)[:MAX_TEXT_CHARS].lower()
    if "@" in text:
        text = " ".join(part for part in text.translate(_AROUND_ADDRESS).split() if "@" not in part)
    return _WORD.findall(text)


class Phrase:
    """One compiled phrase. Raises ``ValueError`` when there is no word in it or a ``*`` stands inside a run."""

    __slots__ = ("parts", "words")

    def __init__(self, text: str) -> None:
        tokens = _PHRASE_WORD.findall(text.lower())
        runs: list[list[str]] = [[]]
        for word in tokens:
            if word == "...":
                runs.append([])
            else:
                runs[-1].append(word)
        if not all(runs):
            raise ValueError(f"{text!r} has no word before or after a gap")
        if any(word.endswith("*") for run in runs for word in run[:-1]):
            raise ValueError(f"{text!r}: a * may stand only at the end of a run of words")
        self.parts = tuple(_needle(run) for run in runs)
        self.words = [word for run in runs for word in run if not word.endswith("*") and not _UNSPACED.search(word)]

    def found_in(self, text: str) -> bool:
        """Whether it stands in ``text``: words joined by single blanks, one blank before and after."""
        first, *others = self.parts
        if not all(part in text for part in others):
            return False
        at = text.find(first)
        while at >= 0:
            end = at + len(first)
            for part in others:
                next_at = text.find(part, end - 1, end + GAP_CHARS + len(part))
                if next_at < 0:
                    break
                end = next_at + len(part)
            else:
                return True
            at = text.find(first, at + 1)
        return False


def _needle(run: Sequence[str]) -> str:
    text = " ".join(run)
    if _UNSPACED.search(text):
        return text
    return " " + (text[:-1] if text.endswith("*") else text + " ")


class PhraseIndex:
    """Finds which of many phrases stand in a text. Each phrase is looked at only when its rarest word is there."""

    def __init__(self, phrases: Sequence[str]) -> None:
        compiled = [Phrase(text) for text in phrases]
        common = Counter(word for phrase in compiled for word in set(phrase.words))
        by_word: dict[str, list[tuple[int, Phrase]]] = {}
        for number, phrase in enumerate(compiled):
            rarest = min(phrase.words, key=lambda word: (common[word], -len(word)), default="")
            by_word.setdefault(rarest, []).append((number, phrase))
        always = by_word.pop("", [])
        self._always = _Shelf([one for one in always if phrases[one[0]].isascii()])
        self._unspaced = _Shelf([one for one in always if not phrases[one[0]].isascii()])
        self._by_word = {word: _Shelf(shelf) for word, shelf in by_word.items()}
        self._words = frozenset(self._by_word)

    def search(self, words: Sequence[str]) -> list[int]:
        """Numbers of the phrases that stand in ``words``, in no order."""
        text = f" {' '.join(words)} "
        found = self._always.search(text)
        if not text.isascii():
            found += self._unspaced.search(text)
        for word in self._words.intersection(words):
            found += self._by_word[word].search(text)
        return found


class _Shelf:
    """Phrases that are looked at together: the plain runs, which are most, apart from those with gaps."""

    __slots__ = ("_gapped", "_plain")

    def __init__(self, phrases: Sequence[tuple[int, Phrase]]) -> None:
        self._plain = [(number, phrase.parts[0]) for number, phrase in phrases if len(phrase.parts) == 1]
        self._gapped = [(number, phrase) for number, phrase in phrases if len(phrase.parts) > 1]

    def search(self, text: str) -> list[int]:
        found = [number for number, needle in self._plain if needle in text]
        for number, phrase in self._gapped:
            if phrase.found_in(text):
                found.append(number)
        return found
