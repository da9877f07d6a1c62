"""The subscription of a made-up account: a trial, plans, renewals, perhaps the end.

Seconds are counted from the start of the told period, its first midnight in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from api.demo.messages import Message
from api.demo.people import Culture

DAY = 86_400
TRIAL = 14 * DAY
YEAR = 365 * DAY
PLANS = {"starter": 29, "team": 99, "business": 349, "enterprise": 1_200}

Moment = tuple[int, str, Message]
"""When, under which key (unique, becomes the message id) and what, still without its stamp."""


@dataclass(frozen=True, slots=True)
class Account:
    """`weight` is how many users it draws, next to the others."""

    id: str
    name: str
    domain: str
    weight: float
    culture: Culture
    founder: str
    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """An account's, told until the second `end`."""

    account: Account
    random: Random
    first_day: date
    end: int

    def story(self) -> Iterator[Moment]:
        """Trial, then a plan, perhaps a larger one, renewal each year, perhaps the end."""
        account, random, begin = self.account, self.random, self.account.begins
        traits: dict[str, object] = {
            "name": account.name,
            "domain": account.domain,
            "country": account.culture.country,
            "plan": "trial",
            "mrr": 0,
            "currency": "EUR",
            "renewal_date": self._date(begin + TRIAL),
        }
        yield begin, f"{account.id}-founded", _founded(account, traits)
        if random.random() < 0.15:
            yield from self._change(begin + TRIAL, "trial expired", {"plan": "free"})
            return
        tier = min(int(account.weight / 4), 2) + (random.random() < 0.3)
        plan = list(PLANS)[tier]
        mrr = round(PLANS[plan] * random.uniform(0.9, 1.6), 2)
        at, steps = begin + TRIAL, ["subscription started"]
        if tier < 3 and random.random() < 0.3:
            steps.append("plan upgraded")
        for step in steps:
            if step == "plan upgraded":
                plan, mrr = list(PLANS)[tier + 1], round(mrr * random.uniform(1.8, 3.2), 2)
                at += random.randint(20 * DAY, 300 * DAY)
            renewal = begin + TRIAL + YEAR * (1 + (at - begin - TRIAL) // YEAR)
            news = {"plan": plan, "mrr": mrr, "renewal_date": self._date(renewal)}
            yield from self._change(at, step, news)
        for renewal in range(begin + TRIAL + YEAR, self.end, YEAR):
            news = {"renewal_date": self._date(renewal + YEAR)}
            yield from self._change(renewal, "subscription renewed", news)
        cancelled = {"plan": "cancelled", "mrr": 0}
        yield from self._change(account.ends, "subscription cancelled", cancelled, is_last=True)

    def _change(
        self,
        at: int,
        event: str,
        traits: dict[str, object],
        *,
        is_last: bool = False,
    ) -> Iterator[Moment]:
        """The founder sends the new properties, so that they follow the old ones in one stream;
        the event is the account's alone."""
        account = self.account
        if at > self.end or (at >= account.ends and not is_last):
            return
        key = f"{account.id}-{event.replace(' ', '-')}-{at}"
        yield at, f"{key}-group", _founded(account, traits)
        yield (
            at,
            key,
            {
                "type": "track",
                "anonymousId": account.id,
                "event": event,
                "properties": traits,
                "context": {"groupId": account.id},
            },
        )

    def _date(self, second: int) -> str:
        return (self.first_day + timedelta(seconds=second)).isoformat()


def _founded(account: Account, traits: dict[str, object]) -> Message:
    return {
        "type": "group",
        "userId": account.founder,
        "groupId": account.id,
        "traits": traits,
        "context": {"relationship": {"role": "owner"}},
    }
