"""Commands, short to write: each identity by its look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from domain.activity import Activity, ActivityKind
from domain.commands import Alias, Change, Command, Join, Leave, Track
from domain.identity import Identity, Scheme

AT = datetime(2026, 5, 13, 12, tzinfo=UTC)


def named(name: str) -> Identity:
    """An identity by its look: `u1`, `ada@example.com`, `a1`, `example.com`."""
    if "@" in name:
        return Identity(Scheme.EMAIL, name)
    if "." in name:
        return Identity(Scheme.DOMAIN, name)
    return Identity(Scheme.USER_ID if name.startswith("u") else Scheme.ACCOUNT_ID, name)


def names(text: str) -> tuple[Identity, ...]:
    return tuple(named(one) for one in text.split())


def identify(who: str, at: datetime = AT, **properties: object) -> Command:
    kind = names(who)[0].scheme.kind
    return Change(kind, names(who), properties, at)


def group(user: str, account: str, at: datetime = AT, **membership: object) -> Command:
    return Join(names(user), names(account), {}, membership, at)


def leave(user: str, account: str, at: datetime = AT) -> Command:
    return Leave(names(user), names(account), at)


def track(user: str = "", account: str = "", *events: str, at: datetime = AT) -> Command:
    done = tuple(Activity(ActivityKind.EVENT, one) for one in events or ("login",))
    return Track(names(user), names(account), done, at)


def alias(user: str, previous: str, at: datetime = AT) -> Command:
    return Alias(names(user), names(previous), at)


def values(identities: Sequence[Identity]) -> list[str]:
    return [one.value for one in identities]
