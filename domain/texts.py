"""Texts as senders write them: what surrounds them is cut off, and what cannot be shown is named.

Texts are compared in Unicode's form NFC: é typed as one character and é typed as e with an accent
are one text.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = "\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""Of no width, and of no meaning at an end: joiners, directional marks, byte-order marks."""

_SPACES = "".join(character for code in range(0x3001) if (character := chr(code)).isspace())
_AROUND = _SPACES + _INVISIBLE

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LINE = re.compile(r"[\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DIRECTION = re.compile(r"[\u202a-\u202e\u2066-\u2069]")


def nfc(text: str) -> str:
    """A text in NFC."""
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", text)


def trimmed(text: str) -> str:
    """A text in NFC, without white space and characters of no width at its ends."""
    return text.strip() if text.isascii() else nfc(text.strip(_AROUND))


def character_problem(text: str) -> str | None:
    """Names the characters for which an id or a name cannot be taken; None: there are none.

    Joiners and spaces of every width stay: languages and emoji need them.
    """
    if text.isprintable():
        return None
    if _CONTROL.search(text):
        return "holds a control character"
    if _LINE.search(text):
        return "holds a line or paragraph separator"
    if _SURROGATE.search(text):
        return "holds half a surrogate pair"
    if _DIRECTION.search(text):
        return "holds a character that turns the direction of writing"
    return None
