"""Calls as senders write them: what is mended, what is left out by name, what is refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.intake.calls import message_id, request
from api.intake.segment import Message
from domain.activity import ActivityKind
from domain.commands import Alias, Change, Join, Request, Track
from domain.errors import InvalidInput
from domain.identity import Identity, Scheme

NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
ADA = Identity(Scheme.USER_ID, "ada")
ACME = Identity(Scheme.ACCOUNT_ID, "acme")


def read(**message: Any) -> Request:
    return request(msgspec.convert(message, Message), NOW, None)


def identify(**message: Any) -> Request:
    return read(**{"type": "identify", "userId": "ada"} | message)


def group(**message: Any) -> Request:
    return read(**{"type": "group", "userId": "ada", "groupId": "acme"} | message)


def track(**message: Any) -> Request:
    return read(**{"type": "track", "userId": "ada", "event": "opened"} | message)


def page(**message: Any) -> Request:
    return read(**{"type": "page", "userId": "ada"} | message)


def left_out(taken: Request) -> list[str]:
    assert all(one.reason for one in taken.refused)
    return [one.name for one in taken.refused]


def place(message: dict[str, Any]) -> str:
    with pytest.raises(InvalidInput) as refusal:
        read(**message)
    assert refusal.value.detail
    return refusal.value.pointer


CALLS = [identify, group, track]


class TestEmptyObjects:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("nothing", [[], {}, None])
    def test_an_empty_list_in_place_of_an_object_is_an_empty_object(
        self, call: Any, nothing: Any
    ) -> None:
        parts = ("traits", "page", "campaign", "relationship")
        plain = call()
        for message in (
            {"traits": nothing},
            {"properties": nothing},
            {"context": nothing},
            *({"context": {part: nothing}} for part in parts),
        ):
            assert call(**message) == plain

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("other", ["", "text", 5, True, ["a"]])
    def test_a_part_of_another_shape_is_left_out_by_name(self, call: Any, other: Any) -> None:
        assert left_out(call(context=other)) == ["context"]
        assert call(context=other).command == call().command

    @pytest.mark.parametrize("other", ["", "text", 5, True, ["a"]])
    def test_traits_properties_and_parts_of_the_context_are_left_out_alone(
        self, other: Any
    ) -> None:
        assert left_out(identify(traits=other)) == ["traits"]
        assert left_out(group(traits=other)) == ["traits"]
        assert left_out(track(properties=other)) == ["properties"]
        for part in ("traits", "page", "campaign"):
            assert left_out(track(context={part: other, "groupId": "acme"})) == [f"context.{part}"]
        assert left_out(group(context={"relationship": other})) == ["context.relationship"]
        assert left_out(group(context={"traits": other})) == ["context.traits"]


class TestIds:
    @pytest.mark.parametrize(("sent", "id"), [(123, "123"), (123.0, "123"), (" 123 ", "123")])
    def test_a_whole_number_is_an_id_wherever_one_is_sent(self, sent: Any, id: str) -> None:
        user, account = Identity(Scheme.USER_ID, id), Identity(Scheme.ACCOUNT_ID, id)
        assert identify(userId=sent).command == identify(userId=id).command
        joined = group(userId=sent, groupId=sent).command
        assert isinstance(joined, Join)
        assert (joined.user, joined.account) == ((user,), (account,))
        tracked = track(userId=sent, context={"groupId": sent}).command
        assert isinstance(tracked, Track)
        assert (tracked.user, tracked.account) == ((user,), (account,))
        alone = read(type="track", event="x", anonymousId=id, context={"groupId": sent}).command
        assert isinstance(alone, Track)
        assert (alone.user, alone.account) == ((), (account,))
        same = read(type="alias", userId=sent, previousId=sent).command
        assert isinstance(same, Alias)
        assert same.user == same.previous == (user,)

    @pytest.mark.parametrize("bad", [True, False, 1.5, math.nan, "", " ", [], {}, ["a"], "a\nb"])
    def test_an_id_that_is_none_is_refused_at_its_place(self, bad: Any) -> None:
        for message, expected in (
            ({"type": "identify", "userId": bad}, "/userId"),
            ({"type": "track", "event": "x", "userId": bad}, "/userId"),
            ({"type": "group", "userId": "ada", "groupId": bad}, "/groupId"),
            ({"type": "alias", "userId": bad, "previousId": "b"}, "/userId"),
            ({"type": "alias", "userId": "a", "previousId": bad}, "/previousId"),
            (
                {"type": "track", "event": "x", "anonymousId": "a", "context": {"groupId": bad}},
                "/context/groupId",
            ),
        ):
            assert place(message) == expected

    @pytest.mark.parametrize("bad", [True, 1.5, "", [], {}, "a\0b"])
    def test_an_id_that_is_none_is_left_out_where_another_says_who_it_is(self, bad: Any) -> None:
        taken = read(type="identify", userId=bad, traits={"email": "a@x.be", "plan": "pro"})
        assert left_out(taken) == ["userId"]
        assert (
            taken.command
            == read(type="identify", traits={"email": "a@x.be", "plan": "pro"}).command
        )
        taken = group(groupId=bad, traits={"domain": "x.be"})
        assert left_out(taken) == ["groupId"]
        taken = group(userId=bad)
        assert isinstance(taken.command, Change)
        assert left_out(taken) == ["userId"]
        taken = track(context={"groupId": bad})
        assert isinstance(taken.command, Track)
        assert (taken.command.account, left_out(taken)) == ((), ["context.groupId"])

    def test_whom_nothing_names_is_refused_with_what_to_send(self) -> None:
        assert place({"type": "identify", "anonymousId": "v"}) == "/userId"
        assert place({"type": "track", "event": "x"}) == "/userId"
        assert place({"type": "group", "userId": "ada"}) == "/groupId"
        assert place({"type": "identify", "traits": {"email": "n/a"}}) == "/traits/email"
        assert place({"type": "group", "traits": {"domain": "a b"}}) == "/traits/domain"

    @pytest.mark.parametrize(("sent", "id"), [(5, "5"), (5.0, "5"), ("m-1", "m-1"), (None, None)])
    def test_a_message_id_may_be_a_whole_number(self, sent: Any, id: str | None) -> None:
        assert track(messageId=sent).message_id == id

    @pytest.mark.parametrize("bad", ["", 1.5, True, [], {}, "a\nb", "x" * 257])
    def test_a_message_id_that_is_none_is_refused(self, bad: Any) -> None:
        # Without it, the message would be stored once more each time that it is sent.
        assert message_id(bad) is None
        assert (
            place({"type": "track", "userId": "a", "event": "x", "messageId": bad}) == "/messageId"
        )


class TestEmails:
    @pytest.mark.parametrize("bad", ["", " ", "n/a", "ada", "a b@x.be", 5, True, ["a@x.be"], "@"])
    def test_an_email_that_is_none_is_left_out_and_the_rest_is_kept(self, bad: Any) -> None:
        taken = identify(traits={"email": bad, "plan": "pro"})
        assert left_out(taken) == ["email"]
        assert taken.command == identify(traits={"plan": "pro"}).command
        for call in (group, track):
            taken = call(context={"traits": {"email": bad}})
            assert left_out(taken) == ["context.traits.email"]
            assert taken.command == call().command

    @pytest.mark.parametrize("sent", ["ada@x.be ", "\tada@x.be\n", "\u200bada@x.be\u00a0"])
    def test_what_surrounds_an_email_is_cut_off_also_in_the_property(self, sent: str) -> None:
        command = identify(traits={"email": sent}).command
        assert isinstance(command, Change)
        assert command.identities == (ADA, Identity(Scheme.EMAIL, "ada@x.be"))
        assert command.properties == {"email": "ada@x.be"}

    def test_an_email_that_is_null_deletes_the_property_and_says_nothing_of_who_it_is(self) -> None:
        command = identify(traits={"email": None}).command
        assert isinstance(command, Change)
        assert (command.identities, command.properties) == ((ADA,), {"email": None})

    @pytest.mark.parametrize("bad", ["", "https://x.be/", "a@x.be", "x be", 5, ["x.be"]])
    def test_a_domain_that_is_none_is_left_out_and_the_rest_is_kept(self, bad: Any) -> None:
        taken = group(traits={"domain": bad, "name": "Acme"})
        assert left_out(taken) == ["domain"]
        assert taken.command == group(traits={"name": "Acme"}).command

    def test_what_is_left_out_does_not_change_what_was_sent(self) -> None:
        message = Message("identify", userId="ada", traits={"email": " n/a", " plan": {"a": 1}})
        request(message, NOW, None)
        assert message.traits == {"email": " n/a", " plan": {"a": 1}}


class TestNames:
    def test_names_are_trimmed_and_composed(self) -> None:
        assert track(event="\u00a0ope\u0301ned ").command == track(event="opéned").command
        assert page(name=" Home ").command == page(name="Home").command
        named = identify(traits={" pla\u0301n ": "x"}).command
        assert isinstance(named, Change)
        assert named.properties == {"plán": "x"}

    @pytest.mark.parametrize("sent", [404, 404.0, " 404"])
    def test_a_whole_number_is_a_name(self, sent: Any) -> None:
        assert page(name=sent).command == page(name="404").command
        assert track(event=sent).command == track(event="404").command

    @pytest.mark.parametrize("none", [None, "", " ", [], {}])
    def test_a_page_without_a_name_is_a_web_page(self, none: Any) -> None:
        taken = page(name=none, properties={"url": "https://x.be/a"})
        assert isinstance(taken.command, Track)
        assert taken.command.activities[0].kind is ActivityKind.PAGE
        assert not taken.refused

    @pytest.mark.parametrize("bad", [True, 1.5, ["a"], {"a": 1}])
    def test_a_name_of_a_page_that_is_none_is_left_out(self, bad: Any) -> None:
        taken = page(name=bad, properties={"url": "https://x.be/a"})
        assert left_out(taken) == ["name"]

    @pytest.mark.parametrize("bad", [None, "", " ", True, 1.5, [], {}, "a\u202eb"])
    def test_an_event_without_a_name_is_refused_at_its_place(self, bad: Any) -> None:
        assert place({"type": "track", "userId": "ada", "event": bad}) == "/event"
        assert place({"type": "screen", "userId": "ada", "name": bad}) == "/name"


class TestPages:
    @pytest.mark.parametrize("missing", [{}, {"url": None}, {"url": ""}])
    def test_the_url_of_the_context_serves_where_the_properties_have_none(
        self, missing: dict[str, Any]
    ) -> None:
        taken = page(properties=missing, context={"page": {"url": "https://x.be/a?b"}})
        assert isinstance(taken.command, Track)
        [activity] = taken.command.activities
        assert (activity.name, activity.metadata) == ("x.be/a", {"url": "https://x.be/a?b"})

    @pytest.mark.parametrize("bad", [5, "/a", True])
    def test_the_url_of_the_context_serves_where_the_other_names_no_page(self, bad: Any) -> None:
        taken = page(properties={"url": bad}, context={"page": {"url": "https://x.be/a"}})
        assert isinstance(taken.command, Track)
        assert (taken.command.activities[0].name, left_out(taken)) == ("x.be/a", [])
        assert taken.command.activities[0].metadata == {"url": bad}

    @pytest.mark.parametrize("bad", [5, "/a", ["https://x.be/"]])
    def test_a_page_without_a_usable_url_is_refused(self, bad: Any) -> None:
        message = {"type": "page", "userId": "ada"}
        assert place(message) == "/properties/url"
        assert place({**message, "context": {"page": {"url": bad}}}) == "/context/page/url"

    def test_the_referrer_of_the_properties_serves_where_the_context_has_none(self) -> None:
        def channel(**message: Any) -> list[str]:
            command = page(**message).command
            assert isinstance(command, Track)
            return [one.name for one in command.activities if one.kind is ActivityKind.CHANNEL]

        url, found = "https://x.be/a", "https://www.google.com/"
        assert channel(properties={"url": url, "referrer": found}) == ["organic"]
        assert channel(properties={"url": url}, context={"page": {"referrer": found}}) == [
            "organic"
        ]
        direct = {"page": {"referrer": ""}}
        assert channel(properties={"url": url, "referrer": found}, context=direct) == ["direct"]


class TestCampaigns:
    def test_numbers_and_spaces_in_a_campaign_are_mended(self) -> None:
        sent = {"name": 120208012345678901, "source": " fb ", "medium": "cpc", "content": 7.0}
        command = track(context={"campaign": sent}).command
        assert isinstance(command, Track)
        _, channel, campaign = command.activities
        assert (channel.name, campaign.name) == ("paid", "120208012345678901")
        assert channel.metadata == {"source": "fb", "medium": "cpc", "content": "7"}

    @pytest.mark.parametrize(
        "bad", [True, 1.5, ["a"], {"a": 1}, "jo@x.be", "x" * 129, "9" * 129, "a\nb"]
    )
    def test_a_part_of_a_campaign_that_cannot_be_kept_is_left_out_by_name(self, bad: Any) -> None:
        taken = track(context={"campaign": {"name": bad, "medium": "cpc"}})
        assert left_out(taken) == ["context.campaign.name"]
        assert taken.command == track(context={"campaign": {"medium": "cpc"}}).command

    @pytest.mark.parametrize("bad", [5, True, ["a"]])
    def test_a_referrer_that_is_no_text_is_left_out(self, bad: Any) -> None:
        assert left_out(track(context={"page": {"referrer": bad}})) == ["context.page.referrer"]


class TestShapes:
    def test_nested_traits_are_flat_and_lists_are_texts(self) -> None:
        traits = {"address": {"city": "Ghent", "geo": {"lat": 51.05}}, "scores": [1, "a", None]}
        flat = {"address.city": "Ghent", "address.geo.lat": 51.05, "scores": ["1", "a"]}
        for call, scope in ((identify, "traits"), (group, "traits")):
            assert call(**{scope: traits}).command == call(**{scope: flat}).command
        related, plain = ({"relationship": one} for one in (traits, flat))
        assert group(context=related).command == group(context=plain).command
        command = track(properties=traits | {"seats": 3.0}).command
        assert isinstance(command, Track)
        metadata = command.activities[0].metadata
        assert metadata == {
            "address.city": "Ghent",
            "address.geo.lat": 51.05,
            "scores": '[1,"a",null]',
            "seats": 3,
        }
        assert type(metadata["seats"]) is int

    def test_a_list_of_an_event_that_is_too_long_is_left_out_by_name(self) -> None:
        taken = track(properties={"long": ["x" * 5_000] * 2, "fine": 1})
        assert left_out(taken) == ["long"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.text(max_size=3)
            | st.sampled_from(
                ["email", "domain", "groupId", "traits", "page", "campaign", "url", "name"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
fields = st.sampled_from([name for name in Message.__struct_fields__ if name != "type"])


@given(
    st.sampled_from(["identify", "group", "track", "page", "screen", "alias", "other"]),
    st.dictionaries(fields, json_values),
)
def test_whatever_is_sent_is_read_or_refused_with_a_place(type: str, rest: dict[str, Any]) -> None:
    refusal = None
    try:
        assert read(type=type, **rest).command.at <= NOW
    except InvalidInput as error:
        refusal = error
    if refusal is not None:
        assert refusal.detail
        assert refusal.pointer.split("/")[1] in Message.__struct_fields__


NEEDED = {"userId", "groupId", "event", "messageId", "timestamp", "originalTimestamp"}


@given(st.dictionaries(fields.filter(lambda name: name not in NEEDED), json_values))
def test_with_an_id_a_name_and_a_time_nothing_else_spoils_a_message(rest: dict[str, Any]) -> None:
    for call in CALLS:
        assert call(**rest).command.at == NOW
