"""Finds the names of subjects in definitions and saved views, and takes them out. Pure.

A name is an identity: an e-mail address wherever it stands, an id or a domain where a condition
tests that attribute of that kind to the letter. Its subject is erased when it is taken out, and no
other subject can have it: so a mark in its place changes no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

import msgspec

from domain.conditions.language import Attribute
from domain.identity import Identity, Scheme, SubjectKind

MARK = "(erased)"
"""Replaces a name that was taken out."""

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
        self._known = {(identity.scheme, identity.matching) for identity in identities}

    def __bool__(self) -> bool:
        return bool(self._known)

    def __repr__(self) -> str:
        return f"Names({len(self._known)})"

    def has(self, scheme: Scheme, value: str) -> bool:
        return (scheme, Identity(scheme, value).matching) in self._known

    def taken_out(self, text: str) -> str:
        """A text with `MARK` in place of each e-mail address that is one of these names."""
        if "@" not in text:
            return text
        if self.has(Scheme.EMAIL, text):
            return MARK
        return _EMAIL.sub(
            lambda match: MARK if self.has(Scheme.EMAIL, match[0]) else match[0], text
        )


def without(content: T, names: Names) -> tuple[T, list[str]]:
    """A definition or a saved view with `MARK` in place of names, and the JSON pointers to where
    they stood; the same, and none, where it holds no name."""
    kind = getattr(content, "kind", None)
    tree = msgspec.to_builtins(content)
    pointers = list(_redact(tree, kind, names, ""))
    return (msgspec.convert(tree, type(content)), pointers) if pointers else (content, [])


def _redact(tree: Any, kind: SubjectKind | None, names: Names, pointer: str) -> Iterator[str]:
    """Takes names out of a tree of JSON; yields the pointers to where they stood."""
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree)
    if isinstance(tree, dict):
        kind = _OTHER_KIND.get(str(tree.get("type")), kind)
        yield from _redact_test(tree, kind, names, pointer)
    for step, value in list(steps):
        if isinstance(value, dict | list):
            yield from _redact(value, kind, names, f"{pointer}/{step}")
        elif isinstance(value, str) and (redacted := names.taken_out(value)) != value:
            tree[step] = redacted
            yield f"{pointer}/{step}"


def _redact_test(
    condition: dict[str, Any], kind: SubjectKind | None, names: Names, pointer: str
) -> Iterator[str]:
    """Takes ids and domains out of a test of that attribute."""
    test = condition.get("test")
    if condition.get("type") != "attribute" or kind is None:
        return
    scheme = _SCHEMES.get((kind, Attribute(condition["name"])))
    if scheme is None or not isinstance(test, dict) or test.get("op") not in _TO_THE_LETTER:
        return
    if "values" in test:
        values, prefix = cast(Any, test["values"]), f"{pointer}/test/values"
        steps: list[tuple[Any, Any]] = list(enumerate(values))
    else:
        values, prefix = test, f"{pointer}/test"
        steps = [("value", test["value"])]
    for step, value in steps:
        if isinstance(value, str) and names.has(scheme, value):
            values[step] = MARK
            yield f"{prefix}/{step}"
