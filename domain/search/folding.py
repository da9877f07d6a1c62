"""Folding: the form in which texts are compared by a search.

What is typed and what is stored are folded alike. So a search finds a text in whatever case, with
or without accents, composed or decomposed, with ligatures, full-width letters and pasted spaces.
"""

from __future__ import annotations

import unicodedata

_LETTERS = {
    "ı": "i", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ŋ": "n", "ĸ": "k",
    "æ": "ae", "œ": "oe", "þ": "th", "ƒ": "f", "ɨ": "i", "ƶ": "z", "ƀ": "b", "ǥ": "g",
}  # fmt: skip
"""Letters that decompose into no other, as people type them."""

_PUNCTUATION = {
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "ʼ": "'", "ʻ": "'", "ʹ": "'", "′": "'", "`": "'",
    "´": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "″": '"',
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-", "⁃": "-",
    "。": ".", "、": ",", "⁄": "/", "∕": "/",
}  # fmt: skip
"""Quotes, dashes and the like, which word processors put in place of those of a keyboard."""

_MARKS = (
    (0x0300, 0x036F), (0x0483, 0x0489), (0x0591, 0x05BD), (0x05BF, 0x05BF), (0x05C1, 0x05C2),
    (0x05C4, 0x05C5), (0x05C7, 0x05C7), (0x0610, 0x061A), (0x064B, 0x065F), (0x0670, 0x0670),
    (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F),
)  # fmt: skip
"""Accents and points that people leave out. The vowel signs of Indic scripts are letters to them,
and stay."""

_UNSEEN = ((0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164), (0xFE00, 0xFE0F),
           (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF))  # fmt: skip
"""Fillers and variation selectors, which show nothing."""

_TABLE: dict[int, str | None] = {
    **{ord(letter): plain for letter, plain in (_LETTERS | _PUNCTUATION).items()},
    **{code: None for first, last in (*_MARKS, *_UNSEEN) for code in range(first, last + 1)},
}


def folded(text: str) -> str:
    """A text as searches compare it: case, accents, width, spaces and what cannot be seen make no
    difference. Folding what is folded changes nothing."""
    if text.isascii():
        plain = " ".join(text.replace("`", "'").lower().split())
        if plain.isprintable():
            return plain
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    bare = unicodedata.normalize("NFC", apart.translate(_TABLE))
    return " ".join("".join(map(_seen, bare)).split())


def _seen(character: str) -> str:
    """Nothing in place of a character that cannot be seen, a space in place of a line's end."""
    if character.isprintable() or character.isspace():
        return character
    return character if unicodedata.category(character) in ("Cn", "Co") else ""
