"""Tells a token, a key or an id from a name, by how unlikely its characters follow one another.

A name is words: letters follow one another as languages let them, and a number stands apart. In a
token, letters, cases and digits alternate at random. The measure is the most unlikely stretch of a
text, in bits, so that a token is found behind a prefix, and a long name is none for its length.
"""

from __future__ import annotations

import re

MIN_CHARS = 20
"""A shorter text says too little to be told by its entropy."""

MIN_STRETCH = 12
"""Characters of a stretch that counts: a name may end with a short code."""

MIN_BITS = 8.0
"""Between all names of `tests/domain/vendor_names.txt` (at most 7 bits) and random tokens: of those
of 32 bytes, 1 in 2,000 has less."""

_SHAPES = re.compile(
    r"[0-9]{16}"  # cards, phones, snowflakes
    r"|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"  # UUID
    r"|[0-9a-f]{32}|(?<![0-9a-z])(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{20,}"
    r"|eyj[\w-]{8,}\.[\w-]{8,}"  # JSON web token
    r"|\b[rsp]k_(?:live|test)_(?=[a-z]*[0-9])[0-9a-z]{10}",
    re.ASCII | re.IGNORECASE,
)
_MIN_DIGITS = 10
_NUMBER = re.compile(r"\+?\(?(?:[0-9][ ()./-]{0,2}){10,}", re.ASCII)
_JOINTS = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[A-Z][a-z]|[0-9])|[0-9](?=[A-Za-z])")
_MIN_JOINTS = 3

_FOLLOWERS = {
    "a": "abcdefghiklmnprstuvwy",
    "b": "aeijloruy",
    "c": "acehikloprtsu",
    "d": "adeiorsu",
    "e": "abcdefghiklmnoprstuvwxy",
    "f": "aefilortu",
    "g": "aeghilmorstu",
    "h": "aeilmortu",
    "i": "abcdefgklmnoprstvz",
    "j": "aeou",
    "k": "aeilnstu",
    "l": "adefiklmostuy",
    "m": "abdeilmopsuy",
    "n": "acdefgikmnostuy",
    "o": "abcdefgklmnoprstuvwy",
    "p": "aefhilopprstuy",
    "q": "u",
    "r": "abcdeiklmnorstuvwyz",
    "s": "aceghiklmopstuvwy",
    "t": "aehiorstuwyz",
    "u": "abcdefgiklmnprstu",
    "v": "aeio",
    "w": "aehinors",
    "x": "aitp",
    "y": "eimops",
    "z": "aeiouz",
}
"""The letters that often follow a letter in English, German, French, Dutch and Spanish: 44 % of all
pairs of letters, and 95 % of those in texts."""

_USUAL = {first + second for first, followers in _FOLLOWERS.items() for second in followers}

# Bits for a token against a name, by what follows what.
_SEPARATED = -2.4
_UNUSUAL, _USUAL_LOWER, _USUAL_UPPER = 1.9, -1.6, -1.2
_WITHIN_NUMBER = 0.1
_JOINT_AFTER = {1: 2.1, 2: 1.7, 3: 1.0}
_JOINT_AFTER_WORD = 0.5
_JOINT_AFTER_NUMBER = 0.4


def looks_like_token(text: str) -> bool:
    """Whether a text is a token, key, UUID, hash or long number, or holds one."""
    if len(text) < _MIN_DIGITS:
        return False
    if _NUMBER.fullmatch(text) or _SHAPES.search(text):
        return True
    return (
        len(text) >= MIN_CHARS
        and len(_JOINTS.findall(text)) >= _MIN_JOINTS
        and bits(text) >= MIN_BITS
    )


def bits(text: str) -> float:
    """How many bits speak for a token in the stretch of a text where most do."""
    most = current = 0.0
    start = 0
    before, kind_before, run = "", "", 0
    for place, character in enumerate(text):
        kind = _kind(character)
        if kind_before:
            step, run = _step(before, kind_before, character, kind, run)
            if current + step <= 0.0:
                current, start = 0.0, place
            else:
                current += step
            if place - start >= MIN_STRETCH:
                most = max(most, current)
        before, kind_before, run = character, kind, run or 1
    return most


def _kind(character: str) -> str:
    if "a" <= character <= "z":
        return "lower"
    if "A" <= character <= "Z":
        return "upper"
    return "digit" if "0" <= character <= "9" else "other"


def _step(before: str, kind_before: str, character: str, kind: str, run: int) -> tuple[float, int]:
    """Returns the bits of a character after another, and the length of its word so far."""
    if kind == "other":
        return (0.0 if kind_before == "other" else _SEPARATED), 0
    if kind_before == "other":
        return 0.0, 1
    if kind == kind_before == "digit":
        return _WITHIN_NUMBER, run + 1
    if kind == kind_before or (kind_before, kind) == ("upper", "lower"):
        length = run + 1 if kind == kind_before or run == 1 else 2
        if (before + character).lower() not in _USUAL:
            return _UNUSUAL, length
        return (_USUAL_LOWER if kind_before == "lower" else _USUAL_UPPER), length
    after_number = _JOINT_AFTER_NUMBER if kind_before == "digit" else 0.0
    return _JOINT_AFTER.get(run, _JOINT_AFTER_WORD) + after_number, 1
