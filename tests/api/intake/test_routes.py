"""Intake over HTTP: Segment's protocol, message by message."""

from __future__ import annotations

import base64
import gzip
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.access import ApiScope
from domain.events.payloads import Tracked
from domain.identity import SubjectId
from projections.kernel.time_range import Stretch
from tests.serving import Clients, account, user

AT = "2026-03-04T05:06:07Z"


def identify(id: object = "ada", **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": id, "timestamp": AT, "traits": traits}


def track(id: str = "ada", event: str = "report opened", **more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": id, "event": event, "timestamp": AT, **more}


def counts(client: Clients, path: str) -> dict[str, int]:
    return {item["name"]: item["count"] for item in client.pages(path)}


def statuses(answer: dict[str, Any]) -> list[str]:
    return [result["status"] for result in answer["results"]]


def test_all_six_calls_of_a_batch_are_stored_and_seen(client: Clients) -> None:
    answer = client.send(
        identify("ada", name="Ada", email="ada@example.com", age=36),
        {
            "type": "group",
            "userId": "ada",
            "groupId": "acme",
            "timestamp": AT,
            "traits": {"name": "Acme", "domain": "acme.example", "mrr": 12.5},
            "context": {"relationship": {"role": "owner", "seats": 3}},
        },
        track("ada", "report opened", properties={"pages": 3}, context={"groupId": "acme"}),
        {
            "type": "page",
            "userId": "ada",
            "timestamp": AT,
            "properties": {"url": "https://acme.example/pricing?who=ada"},
        },
        {"type": "screen", "userId": "ada", "name": "Settings", "timestamp": AT},
        {"type": "alias", "userId": "ada", "previousId": "visitor-1", "timestamp": AT},
    )
    assert answer["success"]
    assert answer["results"] == [{"status": "stored"}] * 6
    ada = client.see(user("ada"))
    assert (ada["name"], ada["email"], ada["properties"]["age"]) == ("Ada", "ada@example.com", 36)
    assert ada["counts"] == {"events": 1, "pages": 1, "screens": 1, "channels": 0, "campaigns": 0}
    [membership] = ada["memberships"]
    assert (membership["external_id"], membership["role"]) == ("acme", "owner")
    assert membership["properties"] == {"role": "owner", "seats": 3}
    acme = client.see(account("acme"))
    assert (acme["name"], acme["domain"], acme["members"]) == ("Acme", "acme.example", 1)
    assert (acme["mrr"]["amount"], acme["mrr"]["currency"]) == ("12.5", None)
    assert counts(client, user("ada", "/events")) == {"report opened": 1}
    assert counts(client, account("acme", "/events")) == {"report opened": 1}
    assert counts(client, user("ada", "/pages")) == {"acme.example/pricing": 1}
    assert counts(client, user("ada", "/screens")) == {"Settings": 1}
    assert client.see(user("visitor-1"))["id"] == ada["id"]


def test_each_message_has_its_result_in_the_order_sent(client: Clients) -> None:
    answer = client.send(
        identify("a") | {"messageId": "one"},
        {"type": "shout", "userId": "a", "messageId": "two"},
        identify("b", plan="pro") | {"messageId": "three"},
        identify("c") | {"messageId": "one"},
        {"type": "identify", "messageId": "five"},
        identify("d", plan=True, age=3) | {"messageId": "six"},
    )
    assert not answer["success"]
    assert statuses(answer) == ["stored", "refused", "stored", "duplicate", "refused", "stored"]
    assert [one["messageId"] for one in answer["results"]] == [
        "one", "two", "three", "one", "five", "six",
    ]  # fmt: skip
    assert answer["results"][1]["place"] == "/batch/1/type"
    assert answer["results"][4]["place"] == "/batch/4/userId"
    assert answer["results"][5]["refused"] == [
        {"name": "plan", "reason": "expected a string, got a boolean"}
    ]
    assert client.see(user("d"))["properties"] == {"age": 3}
    assert client.get(user("c")).status_code == 404


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        ("2026-01-01", True, "expected a date, got a boolean"),
        (1, "one", "expected a number, got a string"),
        ("one", 1, "expected a string, got a number"),
        (True, 1, "expected a boolean, got a number"),
        (["a"], "a", "expected a list of strings, got a string"),
        ("2026-01-01", "2026-02-30", "expected a date (ISO 8601), got an impossible one"),
    ],
)
def test_a_value_of_another_type_is_refused_alone_by_name_with_the_reason(
    client: Clients, first: object, then: object, reason: str
) -> None:
    client.send(identify("a", value=first, plan="free"))
    answer = client.send(identify("a", value=then, plan="pro"))
    assert answer["results"] == [
        {"status": "stored", "refused": [{"name": "value", "reason": reason}]}
    ]
    assert client.see(user("a"))["properties"]["plan"] == "pro"


def test_a_write_merges_and_null_deletes_and_an_empty_text_stays(client: Clients) -> None:
    client.send(identify("a", name="Ada", plan="free", city="Ghent"))
    client.send(identify("a", plan="pro", city=None, name=""))
    assert client.see(user("a"))["properties"] == {"plan": "pro", "name": ""}


def test_metadata_that_is_nested_is_flat_and_a_list_is_its_json(client: Clients) -> None:
    sent = {"good": 3.0, "nested": {"x": 1}, "list": [1], "none": None, "long": ["x" * 9_000]}
    answer = client.send(track(properties=sent))
    assert [one["name"] for one in answer["results"][0]["refused"]] == ["long"]
    [event, _] = client.see(user("ada", "/timeline"))["items"]
    assert event["details"] == {"good": 3, "nested.x": 1, "list": "[1]"}


def test_what_senders_do_is_mended_and_the_rest_of_a_message_is_kept(client: Clients) -> None:
    answer = client.send(
        identify(7, email="n/a", address={"city": "Lie\u0300ge"}, plan=3.0),
        {"type": "group", "userId": "7", "groupId": 9.0, "traits": [], "context": []},
        track(" 7 ", "👩\u200d💻 opened", context={"groupId": {}, "traits": "none"}),
        {"type": "track", "userId": True, "event": "x"},
    )
    assert statuses(answer) == ["stored", "stored", "stored", "refused"]
    left_out = [[one["name"] for one in result.get("refused", ())] for result in answer["results"]]
    assert left_out == [["email"], [], ["context.traits", "context.groupId"], []]
    assert answer["results"][3]["place"] == "/batch/3/userId"
    seen = client.see(user("7"))
    assert seen["properties"] == {"address.city": "Liège", "plan": 3}
    assert seen["memberships"][0]["external_id"] == "9"
    found = client.see(user("7", "/timeline"), name="👩\u200d💻 opened ")["items"]
    assert [item["name"] for item in found] == ["👩\u200d💻 opened"]


def test_a_clock_that_is_a_year_ahead_moves_nobody_into_the_future(client: Clients) -> None:
    ahead = datetime.now(UTC) + timedelta(days=400)
    written = {"timestamp": (ahead - timedelta(seconds=10)).isoformat()}
    client.send(track("a") | written, sentAt=ahead.isoformat())
    client.send(identify("b") | written)
    for who in ("a", "b"):
        [item] = client.see(user(who, "/timeline"), order="newest", limit=1)["items"]
        ago = datetime.now(UTC) - datetime.fromisoformat(item["at"])
        assert timedelta(0) <= ago < timedelta(minutes=2)


class TestOnce:
    def test_a_message_is_stored_once_within_a_batch(self, client: Clients) -> None:
        answer = client.send(*[track() | {"messageId": "m"}] * 3)
        assert statuses(answer) == ["stored", "duplicate", "duplicate"]
        assert answer["success"]
        assert counts(client, user("ada", "/events")) == {"report opened": 1}

    def test_a_message_is_stored_once_across_batches(self, client: Clients) -> None:
        first = client.send(track() | {"messageId": "m"}, track() | {"messageId": "n"})
        again = client.send(track() | {"messageId": "n"}, track() | {"messageId": "o"})
        assert statuses(first) == ["stored", "stored"]
        assert statuses(again) == ["duplicate", "stored"]
        assert counts(client, user("ada", "/events")) == {"report opened": 3}

    def test_a_message_without_an_id_is_stored_each_time(self, client: Clients) -> None:
        client.send(track(), track())
        assert counts(client, user("ada", "/events")) == {"report opened": 2}

    def test_a_batch_that_arrives_many_times_at_once_is_stored_once(self, client: Clients) -> None:
        batch = [track(f"u{n % 3}") | {"messageId": f"m{n}"} for n in range(30)]
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: client.send(*batch), range(8)))
        for n in range(30):
            results = [statuses(answer)[n] for answer in answers]
            assert sorted(results) == ["duplicate"] * 7 + ["stored"]
        for n in range(3):
            assert counts(client, user(f"u{n}", "/events")) == {"report opened": 10}

    def test_a_refused_message_may_be_sent_again_under_its_id(self, client: Clients) -> None:
        wrong = {"type": "track", "userId": "ada", "messageId": "m"}
        assert statuses(client.send(wrong, track() | {"messageId": "m"})) == ["refused", "stored"]
        assert statuses(client.send(track() | {"messageId": "m"})) == ["duplicate"]

    def test_a_message_is_no_duplicate_of_one_that_was_refused(
        self, client: Clients, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client.annals.handler._catalogue, "_limit", 0)
        answer = client.send(track() | {"messageId": "m"}, track() | {"messageId": "m"})
        assert statuses(answer) == ["refused", "refused"]
        assert [one["place"] for one in answer["results"]] == ["/batch/0", "/batch/1"]
        assert statuses(client.send(identify() | {"messageId": "m"})) == ["stored"]

    def test_one_new_user_met_by_many_senders_at_once_is_one_user(self, client: Clients) -> None:
        def send(n: int) -> None:
            client.send(identify("new", email="new@example.com", **{f"p{n}": n}), track("new"))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(send, range(8)))
        found = client.see("/api/users")
        assert found["total"] == 1
        assert {f"p{n}": n for n in range(8)}.items() <= found["items"][0]["properties"].items()
        assert counts(client, user("new", "/events")) == {"report opened": 8}


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


class TestKeys:
    @pytest.mark.parametrize("path", ["/v1/batch", "/backend/v1/batch", "/v1/import"])
    @pytest.mark.parametrize("way", ["bearer", "basic", "body"])
    def test_the_write_key_opens_every_intake_path_in_every_way(
        self, client: Clients, path: str, way: str
    ) -> None:
        key = client.keys["write"]
        body: dict[str, Any] = {"batch": [track()]}
        headers = {}
        match way:
            case "bearer":
                headers = {"Authorization": f"Bearer {key}"}
            case "basic":
                headers = basic(key)
            case _:
                body["writeKey"] = key
        client.taken(client(None).post(path, json=body, headers=headers))
        assert counts(client, user("ada", "/events")) == {"report opened": 1}

    @pytest.mark.parametrize("scope", [one for one in ApiScope if one is not ApiScope.WRITE])
    def test_no_other_scope_opens_the_intake(self, client: Clients, scope: str) -> None:
        key = client.keys[scope]
        for headers, body in (
            ({"Authorization": f"Bearer {key}"}, {"batch": [track()]}),
            (basic(key), {"batch": [track()]}),
            ({}, {"batch": [track()], "writeKey": key}),
        ):
            answer = client(None).post("/v1/batch", json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "wrong-scope")
        assert client.see("/api/users")["total"] == 0

    @pytest.mark.parametrize("scope", ["read", "audit", "comply", "admin"])
    @pytest.mark.parametrize("path", ["/api/users", "/api/accounts", "/api/status"])
    def test_every_scope_but_write_reads(self, standing: Clients, scope: str, path: str) -> None:
        assert standing(scope).get(path).status_code == 200
        refused = standing("write").get(path)
        assert (refused.status_code, refused.json()["code"]) == (403, "wrong-scope")

    @pytest.mark.parametrize("scope", ["write", "read", "audit", "admin"])
    def test_only_the_comply_scope_erases(self, client: Clients, scope: str) -> None:
        client.send(identify("ada"))
        request = {"kind": "user", "id": "external:ada", "confirm": "confirm"}
        assert client(scope).post("/api/erasures", json=request).status_code == 403
        assert client.get(user("ada")).status_code == 200


def test_a_gzip_body_is_taken(client: Clients) -> None:
    body = gzip.compress(json.dumps({"batch": [track()] * 50}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    client.taken(client("write").post("/v1/batch", content=body, headers=headers))
    assert counts(client, user("ada", "/events")) == {"report opened": 50}


def test_an_empty_batch_is_taken_and_says_nothing(client: Clients) -> None:
    assert client.send() == {"success": True, "results": [], "position": ""}


def test_the_content_type_does_not_matter_as_old_clients_send_text(client: Clients) -> None:
    body = json.dumps({"batch": [track()]}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        client.taken(
            client("write").post("/v1/batch", content=body, headers={"Content-Type": kind})
        )
    assert counts(client, user("ada", "/events")) == {"report opened": 3}


class TestTimes:
    def test_an_event_occurs_at_its_timestamp_whatever_its_zone(self, client: Clients) -> None:
        client.send(track() | {"timestamp": "2026-03-04T05:06:07.123+02:00"})
        [event, _] = client.see(user("ada", "/timeline"))["items"]
        assert event["at"] == "2026-03-04T03:06:07.123000Z"

    def test_an_event_without_a_timestamp_occurs_when_it_is_received(self, client: Clients) -> None:
        client.send({"type": "track", "userId": "ada", "event": "report opened"})
        [event, _] = client.see(user("ada", "/timeline"))["items"]
        assert event["at"] <= event["recorded_at"]
        assert event["at"][:4] >= "2026"

    @pytest.mark.parametrize(
        ("sent_at", "least"),
        [("2001-01-01T00:00:00Z", 10 * 365 * 86_400), ("9000-01-01T00:00:00Z", None)],
    )
    def test_the_skew_of_a_clock_that_did_not_write_the_timestamp_moves_nothing(
        self, client: Clients, sent_at: str, least: float | None
    ) -> None:
        client.send(track(), sentAt=sent_at)
        skew = recorded_skew(client)
        assert skew is not None
        assert skew < 0 if least is None else skew > least
        [event, _] = client.see(user("ada", "/timeline"))["items"]
        assert event["at"] == AT

    @pytest.mark.parametrize("sent_at", [None, "", "yesterday", 5, "2026-02-30T00:00:00Z"])
    def test_a_sent_at_that_is_no_date_says_nothing_of_the_clock(
        self, client: Clients, sent_at: object
    ) -> None:
        client.send(track(), sentAt=sent_at)
        assert recorded_skew(client) is None


def recorded_skew(client: Clients) -> float | None:
    subject = SubjectId(uuid.UUID(client.see(user("ada"))["id"]))
    rows = client.annals.timelines.read(Stretch([subject]), 10)
    [payload] = [
        one.payload
        for one in client.annals.sealer.open_rows(rows)
        if isinstance(one.payload, Tracked)
    ]
    return payload.activity.skew


class TestWhoAndWhere:
    def test_an_event_of_an_account_alone_makes_no_user(self, client: Clients) -> None:
        client.send(
            {
                "type": "track",
                "anonymousId": "acme",
                "event": "invoice paid",
                "timestamp": AT,
                "context": {"groupId": "acme"},
            }
        )
        assert counts(client, account("acme", "/events")) == {"invoice paid": 1}
        assert client.see("/api/users")["total"] == 0
        [event, _] = client.see(account("acme", "/timeline"))["items"]
        assert (event["user"], event["account"]["external_id"]) == (None, "acme")

    def test_an_anonymous_visitor_of_an_account_is_refused(self, client: Clients) -> None:
        answer = client.send(
            {"type": "track", "anonymousId": "v", "event": "x", "context": {"groupId": "acme"}}
        )
        assert answer["results"][0]["place"] == "/batch/0/userId"
        assert client.see("/api/accounts")["total"] == 0

    def test_a_group_without_a_user_changes_the_account_alone(self, client: Clients) -> None:
        client.send({"type": "group", "groupId": "acme", "traits": {"name": "Acme"}})
        assert client.see(account("acme"))["members"] == 0

    def test_a_user_is_the_same_under_its_id_and_its_email(self, client: Clients) -> None:
        client.send(identify("ada", email="Ada@Example.com"))
        client.send({"type": "identify", "traits": {"email": "ADA@example.COM", "plan": "pro"}})
        assert client.see("/api/users")["total"] == 1
        assert client.see("/api/users/email:ada@example.com")["properties"]["plan"] == "pro"

    def test_an_event_in_an_account_does_not_make_a_member(self, client: Clients) -> None:
        client.send(track(context={"groupId": "acme"}))
        assert client.see(account("acme"))["members"] == 0
        assert client.see(account("acme", "/users"))["total"] == 0

    def test_a_membership_is_changed_and_ends_and_begins_again(self, client: Clients) -> None:
        def join(at: str | None, **relationship: Any) -> None:
            client.send(
                {
                    "type": "group",
                    "userId": "ada",
                    "groupId": "acme",
                    "timestamp": at,
                    "context": {"relationship": relationship},
                }
            )

        join("2026-01-01T00:00:00Z", role="guest", seats=1)
        join("2026-01-02T00:00:00Z", role="owner", seats=None)
        [member] = client.pages(account("acme", "/users"))
        assert (member["role"], member["properties"]) == ("owner", {"role": "owner"})
        assert member["joined_at"] == "2026-01-01T00:00:00Z"
        removed = client("write").delete("/api/accounts/external:acme/users/external:ada")
        client.taken(removed)
        [member] = client.pages(account("acme", "/users"))
        assert member["left_at"] is not None
        assert client.see(account("acme"))["members"] == 0
        left_at = member["left_at"]
        join("2026-02-01T00:00:00Z")
        [member] = client.pages(account("acme", "/users"))
        assert member["left_at"] == left_at
        join(None)
        [member] = client.pages(account("acme", "/users"))
        assert member["joined_at"] > left_at
        assert member["left_at"] is None


class TestVisits:
    @pytest.mark.parametrize(
        ("name", "tab", "counted"),
        [
            (None, "pages", "shop.example/cart"),
            ("", "pages", "shop.example/cart"),
            ("Cart", "screens", "Cart"),
        ],
    )
    def test_a_page_without_a_name_is_a_page_and_with_one_a_screen(
        self, client: Clients, name: str | None, tab: str, counted: str
    ) -> None:
        url = "https://shop.example/cart/?token=secret#top"
        client.send({"type": "page", "userId": "ada", "name": name, "properties": {"url": url}})
        for other in ("pages", "screens", "events"):
            expected = {counted: 1} if other == tab else {}
            assert counts(client, user("ada", f"/{other}")) == expected

    def test_a_page_takes_its_url_from_the_context_too(self, client: Clients) -> None:
        page = {"url": "https://shop.example/cart", "referrer": ""}
        client.send({"type": "page", "userId": "ada", "context": {"page": page}})
        assert counts(client, user("ada", "/pages")) == {"shop.example/cart": 1}
        assert counts(client, user("ada", "/channels")) == {"direct": 1}

    @pytest.mark.parametrize(
        ("context", "channels", "campaigns"),
        [
            ({"campaign": {"medium": "cpc", "name": "Spring"}}, {"paid": 1}, {"Spring": 1}),
            ({"campaign": {"medium": "newsletter"}}, {"email": 1}, {}),
            ({"campaign": {"source": "x", "name": "Spring"}}, {"campaign": 1}, {"Spring": 1}),
            ({"page": {"referrer": "https://www.google.com/"}}, {"organic": 1}, {}),
            ({"page": {"referrer": "https://news.example/"}}, {"referral": 1}, {}),
            ({"page": {"referrer": "https://t.co/x"}}, {"social": 1}, {}),
            ({"page": {"referrer": "https://www.shop.example/"}}, {}, {}),
            ({}, {}, {}),
        ],
    )
    def test_the_way_a_visit_came_is_counted_by_channel_and_campaign(
        self,
        client: Clients,
        context: dict[str, Any],
        channels: dict[str, int],
        campaigns: dict[str, int],
    ) -> None:
        properties = {"url": "https://shop.example/"}
        client.send({"type": "page", "userId": "ada", "properties": properties, "context": context})
        assert counts(client, user("ada", "/channels")) == channels
        assert counts(client, user("ada", "/campaigns")) == campaigns
