"""The customers of the made-up company and their lives, without their daily activity.

Seconds are counted from the start of the told period, its first midnight in UTC.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from random import Random

from api.demo.messages import Message
from api.demo.people import CULTURES, TITLES, Culture, Unique, firm, person
from api.demo.subscriptions import TRIAL, YEAR, Account, Moment, Subscription

ROLES = ("admin", "editor", "editor", "viewer")
SIGNUP = "https://www.ledgerly.example/signup"


@dataclass(frozen=True, slots=True)
class User:
    """`context` is that of an event in the user's account; empty without one."""

    id: str
    account: Account | None
    begins: int
    ends: int
    context: dict[str, object]


@dataclass(slots=True)
class Lives:
    """Makes users up in the order of their first day, and accounts with their founders.

    `end` is the last second of the period; `moments` are in the order of their time.
    """

    random: Random
    first_day: date
    end: int
    users: list[User] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    _weights: list[float] = field(default_factory=list)
    _firms: set[str] = field(default_factory=set)
    _domains: Unique = field(default_factory=Unique)
    _emails: Unique = field(default_factory=Unique)

    def fill(self, users: int, accounts: int) -> None:
        begins = sorted(int(self.end * self.random.random() ** 0.6) for _ in range(users - 1))
        founders = set(self.random.sample(range(1, users), max(accounts - 1, 0)))
        if accounts:
            founders.add(0)
        for number, begin in enumerate([0, *begins]):
            self._add_user(number, begin, is_founder=number in founders)
        self.moments.sort(key=lambda moment: moment[0])

    def _add_user(self, number: int, begin: int, *, is_founder: bool) -> None:
        random, id = self.random, f"u_{number + 1:06}"
        account = self._found(id, begin) if is_founder else self._joined(begin)
        culture = random.choice(CULTURES)
        if account is not None and random.random() < 0.65:
            culture = account.culture
        end = random.randint(begin, self.end) if random.random() < 0.25 else self.end + 1
        context: dict[str, object] = {}
        if account is not None:
            context["groupId"] = account.id
            end = max(begin, min(end, account.ends))
        self.users.append(User(id, account, begin, end, context))
        if number % 40 == 7:
            self.moments += _visit(id, begin)
        self.moments.append((begin, f"{id}-identify", self._identify(id, culture, account)))
        if account is not None and is_founder:
            subscription = Subscription(account, random, self.first_day, self.end)
            self.moments += subscription.story()
        elif account is not None:
            self._tie(id, account, begin, random.choice(ROLES))
        if random.random() < 0.04:
            news: Message = {"type": "identify", "userId": id}
            news["traits"] = {"title": random.choice(TITLES)}
            self.moments.append((random.randint(begin, self.end), f"{id}-promotion", news))
        if number % 30 == 11 and self.accounts:
            other = random.choice(self.accounts)
            if other is not account:
                self._tie(id, other, random.randint(begin, self.end), "guest")

    def _identify(self, id: str, culture: Culture, account: Account | None) -> Message:
        name, local = person(self.random, culture)
        host = account.domain if account is not None else "post.example"
        traits = {
            "name": name,
            "email": self._emails.of(f"{local}@{host}", before="@"),
            "title": self.random.choice(TITLES),
            "country": culture.country,
        }
        return {"type": "identify", "userId": id, "traits": traits}

    def _tie(self, user: str, account: Account, at: int, role: str) -> None:
        message: Message = {"type": "group", "userId": user, "groupId": account.id}
        message["context"] = {"relationship": {"role": role}}
        self.moments.append((at, f"{user}-{account.id}", message))

    def _joined(self, at: int) -> Account | None:
        """An account that is there at that time, the larger the likelier; or none."""
        random = self.random
        if not self.accounts or random.random() < 0.06:
            return None
        chosen = bisect_left(self._weights, random.random() * self._weights[-1])
        account = self.accounts[min(chosen, len(self.accounts) - 1)]
        return account if account.ends > at else None

    def _found(self, founder: str, begin: int) -> Account:
        random, id = self.random, f"acc_{len(self.accounts) + 1:05}"
        name, label = self._new_firm()
        weight = min(random.paretovariate(1.1), 60.0)
        account = Account(
            id=id,
            name=name,
            domain=self._domains.of(f"{label}.example", before="."),
            weight=weight,
            culture=random.choice(CULTURES),
            founder=founder,
            begins=begin,
            ends=random.randint(begin + TRIAL, begin + YEAR)
            if random.random() < 0.3
            else self.end + 1,
        )
        self._weights.append(weight + (self._weights[-1] if self._weights else 0.0))
        self.accounts.append(account)
        return account

    def _new_firm(self) -> tuple[str, str]:
        """A name that no account has yet, while a few tries find one."""
        for _ in range(20):
            name, label = firm(self.random)
            if name not in self._firms:
                break
        self._firms.add(name)
        return name, label


def _visit(user: str, begin: int) -> Iterator[Moment]:
    """A visitor who came by a campaign and turned out to be the user."""
    visitor = user.replace("u_", "visitor_")
    campaign = {"name": "launch week", "source": "newsletter", "medium": "email"}
    page: Message = {"type": "page", "userId": visitor, "properties": {"url": SIGNUP}}
    page["context"] = {"campaign": campaign, "page": {"url": SIGNUP, "path": "/signup"}}
    yield max(begin - 600, 0), f"{user}-visit", page
    yield begin, f"{user}-alias", {"type": "alias", "userId": user, "previousId": visitor}
