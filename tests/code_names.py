"""What the code itself names in backticks, in docstrings, comments and messages."""

from __future__ import annotations

import ast
import functools
import importlib
import re
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


@functools.cache
def texts() -> dict[Path, str]:
    return {source: source.read_text() for source in sources()}


@functools.cache
def classes() -> dict[str, list[Path]]:
    """The files that declare a class, by its name."""
    declaring: dict[str, list[Path]] = {}
    for source, text in texts().items():
        for name in re.findall(r"^[ ]*class (\w+)", text, re.MULTILINE):
            declaring.setdefault(name, []).append(source)
    return declaring


@functools.cache
def tree(source: Path) -> ast.Module:
    return ast.parse(texts()[source])


def is_there(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


def has_attribute(name: str, attribute: str) -> bool:
    """Whether a class of ours has an attribute, inherited ones included; True of a class that is
    not ours."""
    declared = [
        node
        for source in classes().get(name, ())
        for node in ast.walk(tree(source))
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    if not declared or any(attribute in _members(node) for node in declared):
        return True
    bases = {ast.unparse(base).split("[")[0] for node in declared for base in node.bases}
    inherited = [base.rpartition(".")[2] for base in bases]
    return any(base in classes() and has_attribute(base, attribute) for base in inherited)


def _members(node: ast.ClassDef) -> Iterator[str]:
    for part in ast.walk(node):
        match part:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name
