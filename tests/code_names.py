"""What the code itself names in backticks, in docstrings and comments, and what it defines."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.pages import PACKAGES, ROOT

DOTTED = re.compile(r"(?:domain|projections|infra|api|tests)(?:\.\w+)+")
ATTRIBUTE = re.compile(r"([A-Z]\w+)\.(\w+)")
FILE = re.compile(r"(?:(?:domain|projections|infra|api|tests|docs)/[\w/.-]*|[A-Z]+\.md)")
BARE_PAGE = re.compile(r"\bdocs/[\w/-]+\.(?:md|svg)")


def sources() -> Iterator[Path]:
    for package in (*PACKAGES, "tests"):
        yield from sorted((ROOT / package).rglob("*.py"))


def prose(source: Path) -> Iterator[str]:
    """Docstrings, texts below a constant, and comments."""
    text = source.read_text()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(ast.Constant(str(words))):
                yield words
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@functools.cache
def classes() -> dict[str, set[str]]:
    """Classes by name, with the names that each defines, those of its bases included."""
    own: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for source in sources():
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ClassDef):
                own.setdefault(node.name, set()).update(_members(node))
                names = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
                bases.setdefault(node.name, set()).update(names)
    return {name: _with_inherited(name, own, bases) for name in own}


def _members(node: ast.ClassDef) -> Iterator[str]:
    for part in ast.walk(node):
        match part:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def _with_inherited(name: str, own: dict[str, set[str]], bases: dict[str, set[str]]) -> set[str]:
    found, waiting, seen = set[str](), [name], set[str]()
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            found |= own.get(current, set())
            waiting += bases.get(current, ())
    return found


def is_there(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def has_attribute(name: str, attribute: str) -> bool:
    """Whether a class of ours has an attribute; True of a class that is not ours."""
    if name not in classes():
        return True
    return attribute in classes()[name] or hasattr(builtins.object, attribute)
