"""Links to a subject's record in other apps: templates with its attributes and properties.

A template is an address with names in braces: `https://crm.example/contacts/{external_id}`. The
values come from senders, so they stand only behind the host, percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from domain.errors import InvalidInput, unknown
from domain.identity import SubjectKind

SCHEMES = ("https", "http", "mailto")
MAX_URL_CHARS = 2_000
PROPERTY = "properties."
ATTRIBUTES = {
    SubjectKind.USER: ("id", "external_id", "name", "email"),
    SubjectKind.ACCOUNT: ("id", "external_id", "name", "domain"),
}
"""The attributes that a template can name besides properties."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_IN_AN_ADDRESS = re.compile(r"[!-~]*")
_UNSAFE = re.compile(r'["<>\\^`{|}]')
_STEPS_IN_A_PATH = (".", "..")


class Link(msgspec.Struct, frozen=True):
    """
    Attributes:
        kind: of the pages that show it.
        url: the template.
    """

    kind: SubjectKind
    name: str
    url: str


class Reached(msgspec.Struct, frozen=True):
    """A link of one user or account. `url` is a complete address."""

    name: str
    url: str


class Placeholder(NamedTuple):
    """`is_property`: else it is one of `ATTRIBUTES`."""

    name: str
    is_property: bool


def check(link: Link, pointer: str) -> None:
    """Raises: InvalidInput: the template is no address, or names an attribute that the kind
    lacks."""
    url = link.url
    if not 1 <= len(url) <= MAX_URL_CHARS:
        raise InvalidInput(f"an address has 1 to {MAX_URL_CHARS:,} characters", pointer=pointer)
    fixed = _PLACEHOLDER.sub("", url)
    if not _IN_AN_ADDRESS.fullmatch(fixed) or _UNSAFE.search(fixed):
        raise InvalidInput(
            "besides {names}, an address has ASCII letters, digits and signs; percent-encode"
            " everything else",
            pointer=pointer,
        )
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in SCHEMES:
        raise InvalidInput("an address begins with https://, http:// or mailto:", pointer=pointer)
    if scheme == "mailto":
        if rest.partition("?")[0] == "":
            raise InvalidInput("name the recipient, like mailto:{email}", pointer=pointer)
    else:
        _check_host(url, pointer)
    for placeholder in placeholders(url):
        if not placeholder.is_property and placeholder.name not in ATTRIBUTES[link.kind]:
            known = [*ATTRIBUTES[link.kind], f"{PROPERTY}…"]
            raise InvalidInput(
                unknown(f"placeholder for {link.kind}s", placeholder.name, known),
                pointer=pointer,
            )


def _check_host(url: str, pointer: str) -> None:
    """A sent value must not choose the host that a reader goes to."""
    try:
        parts = urlsplit(_PLACEHOLDER.sub("{}", url))
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or "//" not in url:
        raise InvalidInput("the address has no host, or an invalid one", pointer=pointer)
    if "{" in parts.netloc or "@" in parts.netloc:
        raise InvalidInput("the host is the same for all: use no {names} in it", pointer=pointer)


def check_properties(link: Link, known: Collection[str], pointer: str) -> None:
    """Raises: InvalidInput: it names an unknown property."""
    for placeholder in placeholders(link.url):
        if placeholder.is_property and placeholder.name not in known:
            raise InvalidInput(
                unknown(f"property of {link.kind}s", placeholder.name, known), pointer=pointer
            )


def placeholders(url: str) -> Iterator[Placeholder]:
    """Yields the names in a template, in order."""
    for name in _PLACEHOLDER.findall(url):
        is_property = name.startswith(PROPERTY)
        yield Placeholder(name.removeprefix(PROPERTY), is_property)


def reached(
    links: Iterable[Link],
    kind: SubjectKind,
    attributes: Mapping[str, object],
    properties: Mapping[str, object],
) -> list[Reached]:
    """The links of a subject, in order; without those that name a value that it does not have."""
    reached = []
    for link in links:
        if link.kind is not kind:
            continue
        is_mail = link.url.startswith("mailto:")
        values = [
            _text((properties if placeholder.is_property else attributes).get(placeholder.name))
            for placeholder in placeholders(link.url)
        ]
        filled = [_encoded(value, is_mail=is_mail) for value in values if value is not None]
        if len(filled) == len(values):
            reached.append(Reached(link.name, _filled(link.url, filled)))
    return reached


def _filled(url: str, values: Sequence[str]) -> str:
    """A template with a value in the place of each placeholder, in order."""
    left = iter(values)
    return _PLACEHOLDER.sub(lambda _: next(left), url)


def _text(value: object) -> str | None:
    """A value in the form for an address; None: it has none. One or two dots would lead
    elsewhere."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) and value and value not in _STEPS_IN_A_PATH else None


def _encoded(value: str, *, is_mail: bool) -> str:
    """Percent-encoded whole; but in mail the last @ is what makes it an address."""
    parts = value.rsplit("@", 1) if is_mail else [value]
    return "@".join(quote(part, safe="", errors="replace") for part in parts)
