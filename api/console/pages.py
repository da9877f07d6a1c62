"""How values are written for people, and how a page is made of them."""

from __future__ import annotations

import gzip
import hashlib
import re
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Response
from markupsafe import Markup, escape

from api.console.address import past_of, then
from api.console.sessions import AnyRequest, Session
from domain.properties import day_in

FOLDER = Path(__file__).parent
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
PRIVATE = {"Cache-Control": "no-store"}
SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_STEPS = (
    (60, 1, "just now"),
    (3_600, 60, "min"),
    (86_400, 3_600, "h"),
    (86_400 * 60, 86_400, "days"),
)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)")
IDENTITY = {"scheme", "value"}
HEALTH_SHAPES = {"good": "●", "normal": "◐", "bad": "○"}
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Asset(msgspec.Struct, frozen=True):
    """A file for browsers. Its address changes with its content: it may be cached for ever."""

    plain: bytes
    packed: bytes
    type: str
    digest: str


def _assets() -> dict[str, Asset]:
    assets = {}
    for path in sorted((FOLDER / "static").iterdir()):
        if path.suffix in MEDIA_TYPES:
            plain = path.read_bytes()
            assets[path.name] = Asset(
                plain,
                gzip.compress(plain, 9, mtime=0),
                MEDIA_TYPES[path.suffix],
                hashlib.sha256(plain).hexdigest()[:16],
            )
    return assets


ASSETS = _assets()


def asset(name: str) -> str:
    """The address of an asset."""
    return f"/console/static/{ASSETS[name].digest}/{name}"


def number(value: float | Decimal | str | None) -> str:
    """With thousands parted: 1,204."""
    if value is None:
        return "–"
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    if not exact.is_finite() or abs(exact.adjusted()) > 20:
        return str(value)
    return f"{exact:,f}"


def money(amount: str | float | None, currency: str | None) -> str:
    """€1,200.50; whole amounts without cents."""
    if amount is None:
        return "–"
    exact = Decimal(str(amount))
    text = f"{exact:,.0f}" if exact == exact.to_integral_value() else f"{exact:,.2f}"
    if currency is None:
        return text
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{text}" if symbol else f"{text} {currency}"


def instant(value: str | datetime) -> datetime:
    if isinstance(value, datetime):
        return value
    at = datetime.fromisoformat(value)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def ago(value: str | datetime | None, now: datetime | None = None) -> Markup:
    """A time as people say it, exact in its title (the browser turns that to its own zone)."""
    if value is None:
        return Markup('<span class="none">–</span>')
    at, now = instant(value), now or datetime.now(UTC)
    seconds = (now - at).total_seconds()
    text = f"{at:%-d %b %Y}"
    if seconds > -60:
        for below, unit, word in _STEPS:
            if seconds < below:
                count = int(seconds // unit)
                text = word if unit == 1 else f"{count} {_unit(word, count)} ago"
                break
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.astimezone(UTC).isoformat(), f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", text
    )


def _unit(word: str, count: int) -> str:
    return word.removesuffix("s") if count == 1 else word


def exactly(value: str) -> str:
    """An instant to the minute: 3 May 2026, 14:00 UTC (the browser turns it to its own zone)."""
    return f"{instant(value).astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def day(value: str | datetime | date | None) -> Markup:
    """The day of an instant, in the browser's zone, or a calendar day as it is: 12 Jan 2027."""
    if value is None:
        return Markup('<span class="none">–</span>')
    value = day_in(value) or value
    if isinstance(value, date) and not isinstance(value, datetime):
        return Markup('<time datetime="{}">{}</time>').format(value, f"{value:%-d %b %Y}")
    try:
        at = instant(value)
    except ValueError:
        return escape(str(value))
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(), f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", f"{at:%-d %b %Y}"
    )


def value(shown: Any, type: str | None = None) -> Markup:
    """A property value of any type."""
    if shown is None:
        return Markup('<span class="none">–</span>')
    if isinstance(shown, bool):
        return Markup("yes") if shown else Markup("no")
    if isinstance(shown, str) and (type == "date" or (type is None and _is_date(shown))):
        return day(shown)
    if isinstance(shown, int | float):
        return escape(number(shown))
    if isinstance(shown, list):
        items = [Markup('<span class="item">{}</span>').format(value(element)) for element in shown]
        return Markup(" ").join(items)
    if isinstance(shown, dict):
        named = dict(shown) if shown.keys() != IDENTITY else {shown["scheme"]: shown["value"]}
        pairs = [
            Markup("{}: {}").format(words(name), value(member)) for name, member in named.items()
        ]
        return Markup(", ").join(pairs)
    if shown == "":
        return Markup('<span class="none">empty</span>')
    return escape(str(shown))


def _is_date(text: str) -> bool:
    return day_in(text) is not None or _INSTANT.fullmatch(text) is not None


def written(shown: Any) -> str:
    """A value of a quick filter as it stands in an address."""
    return shown if isinstance(shown, str) else msgspec.json.encode(shown).decode()


def script_json(shown: Any) -> Markup:
    """JSON inside a script element, from which no text can break out."""
    text = msgspec.json.encode(shown).decode()
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing is left in it that could end the element


def span(days: float) -> str:
    """How long: 3 days, 5 h."""
    if days >= 1:
        return plural(int(days), "day")
    return f"{days * 24:.0f} h" if days * 24 >= 1 else f"{max(days * 1_440, 1):.0f} min"


def health(word: str) -> Markup:
    """Shape, colour and word: meaning is never colour alone."""
    return Markup('<span class="health {0}"><i aria-hidden="true">{1}</i> {0}</span>').format(
        word, HEALTH_SHAPES.get(word, "◐")
    )


def title_of(contact: Any) -> str:
    """Returns the name of a user or an account, or the best substitute."""
    for name in ("name", "email", "domain", "external_id"):
        if contact.get(name):
            return str(contact[name])
    return str(contact["id"])[:8]


def words(text: str) -> str:
    """A word of the wire for people: `segment_entered` is `segment entered`."""
    return text.replace("_", " ")


def plural(count: int | None, singular: str, many: str | None = None) -> str:
    return f"{number(count)} {singular if count == 1 else many or singular + 's'}"


def _environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "number": number,
        "ago": ago,
        "day": day,
        "exactly": exactly,
        "then": then,
        "value": value,
        "health": health,
        "title_of": title_of,
        "plural_length": lambda items, singular: plural(len(items), singular),
        "words": words,
        "span": span,
        "plural": plural,
        "written": written,
        "script_json": script_json,
        "json": lambda shown: msgspec.json.encode(shown).decode(),
    }
    env.globals |= {"asset": asset, "money": money, "shapes": HEALTH_SHAPES}
    return env


ENVIRONMENT = _environment()


def page(request: AnyRequest, template: str, *, status: int = 200, **values: Any) -> Response[str]:
    """A page, or a part of one."""
    session: Session | None = request.state.get("session")
    as_of = past_of(request.query_params)
    saved = "saved" in request.query_params
    text = ENVIRONMENT.get_template(template).render(
        session=session, as_of=as_of, saved=saved, **values
    )
    return Response(
        text, status_code=status, media_type=MediaType.HTML, headers=SECURITY_HEADERS | PRIVATE
    )
