"""The pages of the documentation, and what they name: read by the tests that hold them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PACKAGES = ("domain", "projections", "infra", "api")


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next heading of its level or above."""
    text = text_of(page)
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"{page} has no heading {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def quoted(text: str) -> list[str]:
    """What stands between backticks, on one line or over two."""
    return [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", without_blocks(text))]


def commands(text: str) -> Iterator[str]:
    """Lines that a reader types: of fenced and indented blocks, and between backticks."""
    for block in re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))
    yield from quoted(text)


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`, as GitHub makes it of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def links() -> Iterator[tuple[Path, str]]:
    """Pages with what they link, pictures included; not what is outside of the repository."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                yield page, target
