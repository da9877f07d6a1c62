"""What a destination is told of an event: what it asked for, and nothing else."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from domain.activity import Activity, ActivityKind
from domain.conditions.language import Health
from domain.definitions.destinations import Destination, Subscription, SubscriptionKind
from domain.definitions.types import DefinitionId
from domain.events.decisions import (
    GoalReached,
    HealthChanged,
    OfDay,
    ScoreChanged,
    SegmentEntered,
    SegmentLeft,
    SignalTriggered,
    StageEntered,
    StageLeft,
)
from domain.events.payloads import (
    Absorbed,
    Erased,
    Identified,
    MembershipChanged,
    MembershipEnded,
    MembershipStarted,
    MergedInto,
    Payload,
    PropertiesChanged,
    Registered,
    StageSet,
    Tracked,
)
from domain.events.topics import PAYLOAD_OF_TOPIC
from domain.identity import SubjectKind
from domain.webhook_items import ERASED_TOPICS, is_own_segment, item_data, topics
from tests.commands import names
from tests.domain.given import SOMEBODY, ada, bob

DEFINITION = DefinitionId(UUID(int=7))
NAMES = {DEFINITION: "Paying"}
DECIDED = (DEFINITION, 3, 2, OfDay(date(2026, 5, 13)), {"/condition": {"value": "secret"}})
NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
DECISION = {"definition": DEFINITION, "version": 2, "name": "Paying"}


def destination(*about: SubscriptionKind, names: list[str] | None = None) -> Destination:
    news = [Subscription(one, names) for one in about or tuple(SubscriptionKind)]
    return Destination("CRM", "https://crm.example", news)


def item(payload: Payload, to: Destination | None = None) -> object:
    return item_data(to or destination(), ada.id, payload, NAMES)


class TestTopics:
    def test_a_destination_is_told_of_the_topics_that_it_asks_for(self) -> None:
        assert topics(destination(SubscriptionKind.EVENT, SubscriptionKind.MERGE)) == {
            "user.event_tracked",
            "account.event_tracked",
            "user.absorbed",
            "account.absorbed",
            "user.merged_into",
            "account.merged_into",
        }

    def test_a_destination_for_users_is_told_of_no_accounts(self) -> None:
        users = Destination("CRM", "https://crm.example", destination().news, kind=SubjectKind.USER)
        assert all(topic.startswith("user.") for topic in topics(users))

    def test_every_topic_is_one_of_the_log_and_none_is_an_erasure(self) -> None:
        of_users = {topic for topic in topics(destination()) if topic.startswith("user.")}
        assert of_users <= set(PAYLOAD_OF_TOPIC)
        assert not topics(destination()) & ERASED_TOPICS


class TestItems:
    @pytest.mark.parametrize(
        ("payload", "data"),
        [
            (
                Tracked(Activity(ActivityKind.EVENT, "paid", {"sum": 5})),
                {"name": "paid", "metadata": {"sum": 5}},
            ),
            (
                PropertiesChanged({"plan": "pro", "city": "Ghent"}, ["fax"], {"plan": "free"}),
                {
                    "changes": [
                        {"name": "city", "before": None, "after": "Ghent"},
                        {"name": "fax", "before": None, "after": None},
                        {"name": "plan", "before": "free", "after": "pro"},
                    ]
                },
            ),
            (
                Absorbed((bob.id,), names("u2"), {"age": 36}),
                {
                    "others": [bob.id],
                    "changes": [{"name": "age", "before": None, "after": 36}],
                },
            ),
            (MergedInto(bob.id), {"merged": ada.id, "survivor": bob.id}),
            (Registered(names("u1")), {"identities": [{"scheme": "user_id", "value": "u1"}]}),
            (Identified(names("u1")), {"identities": [{"scheme": "user_id", "value": "u1"}]}),
            (
                MembershipStarted({"role": "owner"}),
                {"changes": [{"name": "role", "before": None, "after": "owner"}]},
            ),
            (
                MembershipChanged({"role": "guest"}, before={"role": "owner"}),
                {"changes": [{"name": "role", "before": "owner", "after": "guest"}]},
            ),
            (MembershipEnded(), {}),
            (
                StageEntered(*DECIDED, stage="paying", by_hand=True),
                {**DECISION, "stage": "paying", "by_hand": True},
            ),
            (StageLeft(*DECIDED, stage="paying"), {**DECISION, "stage": "paying"}),
            (
                HealthChanged(*DECIDED, before=Health.GOOD, after=Health.BAD),
                {**DECISION, "before": "good", "after": "bad"},
            ),
            (
                ScoreChanged(*DECIDED, before=None, after=50.0, held=["a"], missed=["b"]),
                {**DECISION, "before": None, "after": 50.0, "held": ["a"], "missed": ["b"]},
            ),
            (
                SignalTriggered(*DECIDED, goal_due_at=NOON),
                {**DECISION, "goal_due_at": NOON},
            ),
            (SegmentEntered(*DECIDED), DECISION),
            (GoalReached(*DECIDED), DECISION),
        ],
    )
    def test_each_event_has_its_words(self, payload: Payload, data: object) -> None:
        assert item(payload) == data

    def test_what_people_typed_and_what_conditions_saw_is_told_to_nobody(self) -> None:
        assert item(StageSet("paying", "a private reason", SOMEBODY)) is None
        assert "secret" not in repr(item(SegmentEntered(*DECIDED)))

    def test_what_is_not_readable_any_more_is_told_to_nobody(self) -> None:
        assert item_data(destination(), ada.id, None, NAMES) is None
        assert item(Erased()) is None

    def test_a_definition_that_is_gone_has_no_name(self) -> None:
        assert item_data(destination(), ada.id, SegmentLeft(*DECIDED), {}) == {
            **DECISION,
            "name": None,
        }


class TestNarrowing:
    def test_only_activities_that_a_destination_names_are_told(self) -> None:
        to = destination(SubscriptionKind.EVENT, names=["paid"])
        assert item(Tracked(Activity(ActivityKind.EVENT, "login")), to) is None
        assert item(Tracked(Activity(ActivityKind.EVENT, "paid")), to) is not None

    def test_only_properties_that_a_destination_names_are_told(self) -> None:
        to = destination(SubscriptionKind.PROPERTY, names=["plan"])
        assert item(PropertiesChanged({"plan": "pro", "salary": 1}), to) == {
            "changes": [{"name": "plan", "before": None, "after": "pro"}]
        }
        assert item(PropertiesChanged({"salary": 1}), to) is None

    def test_a_merge_tells_properties_only_to_who_asks_for_them(self) -> None:
        merge = Absorbed((bob.id,), (), {"plan": "pro", "salary": 1})
        assert item(merge, destination(SubscriptionKind.MERGE)) == {
            "others": [bob.id],
            "changes": [],
        }
        plan = destination(SubscriptionKind.PROPERTY, names=["plan"])
        assert item(merge, plan) == {
            "others": [bob.id],
            "changes": [{"name": "plan", "before": None, "after": "pro"}],
        }
        assert item(Absorbed((bob.id,), (), {"salary": 1}), plan) is None

    def test_who_leaves_the_segment_of_a_destination_is_told_all_the_same(self) -> None:
        to = Destination("CRM", "https://crm.example", [], SubjectKind.USER, DEFINITION)
        assert is_own_segment(to, SegmentLeft(*DECIDED))
        assert not is_own_segment(to, SegmentLeft(DefinitionId(UUID(int=8)), *DECIDED[1:]))
        assert not is_own_segment(to, StageLeft(*DECIDED, stage="paying"))
