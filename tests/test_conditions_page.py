"""The page that teaches conditions: its questions have the answers that it gives."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sqlalchemy as sa

from domain.activity import Activity, ActivityKind
from domain.calendar import Moment
from domain.commands import Change, Join, Leave, Track
from domain.conditions.decoding import decode
from domain.conditions.validation import check
from domain.errors import InvalidInput, NotReady
from domain.identity import SubjectKind
from infra.bootstrap.annals import Annals
from projections.conditions.compiler import QueryScope, predicate
from projections.conditions.known_names import KnownNames
from projections.kernel.tables import contacts
from tests.projections.counting import need
from tests.projections.read_models import account, event, project, user, write

PAGE = (Path(__file__).parent.parent / "docs" / "conditions.md").read_text()
QUESTION = re.compile(
    r"^### \d+\. Which (users|accounts) .*?^```json\n(.*?)^```\n\nAnswer: (.*?)\.", re.DOTALL | re.M
)
TODAY = Moment(datetime(2026, 5, 13, 12, tzinfo=UTC), ZoneInfo("UTC"))


def at(month: int, day: int) -> datetime:
    return datetime(2026, month, day, 9, tzinfo=UTC)


def paid(amount: int) -> tuple[Activity, ...]:
    return (Activity(ActivityKind.EVENT, "paid", {"amount": amount}),)


@pytest.fixture
def company(annals: Annals) -> Annals:
    """The company of the page."""
    start = at(1, 1)
    pro = {"plan": "pro", "seats": 12, "renewal_date": "2026-05-20", "tags": ["beta"]}
    prices = event("acme.com/pricing", ActivityKind.PAGE)
    write(
        annals,
        Change(SubjectKind.USER, user("ann"), pro, start),
        Change(SubjectKind.USER, user("bob"), {"plan": "free"}, start),
        Change(
            SubjectKind.USER, user("cleo"), pro | {"seats": 3, "renewal_date": "2026-12-01"}, start
        ),
        Change(SubjectKind.USER, user("cleo"), {"tags": None}, start),
        Change(SubjectKind.USER, user("dan"), {}, start),
        Join(user("ann"), account("acme"), {"mrr": 990.50}, {"role": "admin"}, start),
        Join(user("bob"), account("acme"), {}, {}, start),
        Join(user("cleo"), account("globex"), {"mrr": 120}, {"role": "owner"}, start),
        Join(user("dan"), account("globex"), {}, {}, start),
        Leave(user("dan"), account("globex"), at(5, 1)),
        *(Track(user("ann"), (), paid(90), at(5, day)) for day in (1, 5)),
        Track(user("ann"), (), paid(250), at(5, 12)),
        Track(user("ann"), (), prices, at(5, 12)),
        Track(user("bob"), (), paid(900), at(3, 1)),
        Track(user("dan"), (), paid(30), at(4, 13)),
    )
    project(annals)
    return annals


def test_the_questions_have_the_answers_of_the_page(company: Annals) -> None:
    questions = QUESTION.findall(PAGE)
    assert len(questions) == 11
    for _, condition, _ in questions:
        with suppress(NotReady), company.queries.connect() as conn:
            need(conn, decode(condition.encode()))
    filler = company.filler()
    while filler.step():
        pass
    with company.queries.connect() as conn:
        for plural, condition, answer in questions:
            kind = SubjectKind(plural.removesuffix("s"))
            question = decode(condition.encode())
            check(question, kind, KnownNames(conn))
            need(conn, question)
            for scope in QueryScope:
                test = predicate(question, kind, TODAY, scope=scope)
                subjects = sa.select(contacts.c.external_id).where(contacts.c.kind == kind, test)
                assert set(conn.scalars(subjects)) == set(answer.split(", ")), condition


def test_the_refusal_of_the_page_is_the_one_that_is_given(company: Annals) -> None:
    shown = msgspec.json.decode(re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.M)[-1])
    sent = b"""{"type": "all", "of": [{"type": "health", "health": ["bad"]},
        {"type": "activity", "activity": "event", "name": "payed"}]}"""
    with company.queries.connect() as conn, pytest.raises(InvalidInput) as caught:
        check(decode(sent), SubjectKind.USER, KnownNames(conn))
    refused = caught.value
    assert shown == {"code": refused.code, "detail": refused.detail, "place": refused.pointer}
