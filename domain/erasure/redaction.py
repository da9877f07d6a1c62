"""Where definitions and saved views name somebody by value, and the same without the names.

A name is an identity: an e-mail address wherever it stands, an id or a domain where a condition
tests that attribute of that kind to the letter. Whoever has it is erased when it is taken out, and
nobody else can have it: so a mark in its place changes no answer. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

import msgspec

from domain.conditions.language import Attribute
from domain.identity import Identity, Scheme, SubjectKind

MARK = "(erased)"
"""What stands in place of a name that was taken out."""

_EMAIL = re.compile(r"[\w.+%'’-]+@[\w-]+(?:\.[\w-]+)*")
_TO_THE_LETTER = {"is", "is_not", "in", "not_in"}
_SCHEMES = {
    (SubjectKind.USER, Attribute.EXTERNAL_ID): Scheme.USER_ID,
    (SubjectKind.ACCOUNT, Attribute.EXTERNAL_ID): Scheme.ACCOUNT_ID,
    (SubjectKind.ACCOUNT, Attribute.DOMAIN): Scheme.DOMAIN,
}
_OTHER_KIND = {"accounts": SubjectKind.ACCOUNT, "users": SubjectKind.USER}

T = TypeVar("T", bound=msgspec.Struct)


class Names:
    """The outside names of some subjects."""

    def __init__(self, identities: Iterable[Identity]) -> None:
        self._known = {(one.scheme, one.matching) for one in identities}

    def __bool__(self) -> bool:
        return bool(self._known)

    def __repr__(self) -> str:
        return f"Names({len(self._known)})"

    def has(self, scheme: Scheme, value: str) -> bool:
        return (scheme, Identity(scheme, value).matching) in self._known

    def taken_out(self, text: str) -> str:
        """A text without the e-mail addresses among them."""
        if "@" not in text:
            return text
        if self.has(Scheme.EMAIL, text):
            return MARK
        return _EMAIL.sub(
            lambda found: MARK if self.has(Scheme.EMAIL, found[0]) else found[0], text
        )


def without(said: T, names: Names) -> tuple[T, list[str]]:
    """What a definition or a saved view says without names, and where they stood, as JSON pointers;
    itself, and nowhere, where it names none."""
    kind = getattr(said, "kind", None)
    tree = msgspec.to_builtins(said)
    places = list(_clean(tree, kind, names, ""))
    return (msgspec.convert(tree, type(said)), places) if places else (said, [])


def _clean(tree: Any, kind: SubjectKind | None, names: Names, pointer: str) -> Iterator[str]:
    """Takes names out of a tree; gives where."""
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree)
    if isinstance(tree, dict):
        kind = _OTHER_KIND.get(str(tree.get("type")), kind)
        yield from _clean_test(tree, kind, names, pointer)
    for step, one in list(steps):
        if isinstance(one, dict | list):
            yield from _clean(one, kind, names, f"{pointer}/{step}")
        elif isinstance(one, str) and (clean := names.taken_out(one)) != one:
            tree[step] = clean
            yield f"{pointer}/{step}"


def _clean_test(
    condition: dict[str, Any], kind: SubjectKind | None, names: Names, pointer: str
) -> Iterator[str]:
    """Takes ids and domains out of a test of that attribute."""
    test = condition.get("test")
    if condition.get("type") != "attribute" or kind is None:
        return
    scheme = _SCHEMES.get((kind, Attribute(condition["name"])))
    if scheme is None or not isinstance(test, dict) or test.get("op") not in _TO_THE_LETTER:
        return
    held = cast(Any, test["values"]) if "values" in test else test
    for step, one in list(enumerate(held)) if "values" in test else [("value", test["value"])]:
        if isinstance(one, str) and names.has(scheme, one):
            held[step] = MARK
            yield f"{pointer}/test/{'values/' if 'values' in test else ''}{step}"
