"""Reading over HTTP: lists, the 360 view, what is below it, and what is gone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from projections.kernel.paging import encoded
from tests.serving import Clients, Fresh, account, problem, user

SORTS = ("name", "email", "external_id", "last_seen", "first_seen", "registered_at", "domain")


def at(minute: int) -> str:
    return f"2026-03-04T{minute // 60:02}:{minute % 60:02}:00Z"


def identify(id: str, minute: int = 0, **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": id, "timestamp": at(minute), "traits": traits}


def track(id: str, event: str, minute: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": id, "event": event, "timestamp": at(minute), **more}


def group(account_id: str, user_id: str | None = None, minute: int = 0, **more: Any) -> Any:
    who = {} if user_id is None else {"userId": user_id}
    return {"type": "group", "groupId": account_id, "timestamp": at(minute), **who, **more}


def names(items: list[Any]) -> list[str]:
    return [item["name"] for item in items]


class TestLists:
    def people(self, client: Clients, fresh: Fresh, count: int) -> None:
        messages = []
        for n in range(count):
            id = fresh(f"u{n:03}")
            traits = {"name": f"Name {n % 40:02}", "email": f"{id}@example.com"}
            if n % 3 == 0:
                traits = {}
            messages.append(identify(id, n, **traits))
            if n % 4:
                messages.append(track(id, "opened", (n * 7) % 130))
        client.send(*messages)

    def test_pages_hold_every_user_once_in_every_order_both_ways(
        self, client: Clients, fresh: Fresh
    ) -> None:
        self.people(client, fresh, 75)
        for column in SORTS:
            up = client.pages("/api/users", sort=column, limit=17)
            down = client.pages("/api/users", sort=f"-{column}", limit=19)
            assert len(up) == len({item["id"] for item in up}) == 75
            assert [item["id"] for item in down] == [item["id"] for item in reversed(up)]
            values = [item[column] for item in up]
            known = [value for value in values if value is not None]
            assert known == sorted(known)
            assert values == [None] * (75 - len(known)) + known
            assert client.see("/api/users", sort=column, limit=1)["total"] == 75

    def test_pages_neither_skip_nor_repeat_while_others_write(
        self, standing: Clients, fresh: Fresh
    ) -> None:
        self.people(standing, fresh, 70)
        before = {item["id"] for item in standing.pages("/api/users", limit=500)}
        stop = threading.Event()

        def write() -> None:
            n = 0
            while not stop.is_set():
                standing.send(
                    identify(fresh(f"v{n:04}"), name=f"Name {n % 40:02}"),
                    track(fresh("u001"), "opened"),
                )
                n += 1

        with ThreadPoolExecutor(1) as threads:
            writing = threads.submit(write)
            try:
                for sort in ("name", "-external_id", "registered_at"):
                    seen = [
                        item["id"] for item in standing.pages("/api/users", sort=sort, limit=10)
                    ]
                    assert len(seen) == len(set(seen))
                    assert before <= set(seen)
            finally:
                stop.set()
            writing.result()

    @pytest.mark.parametrize("sort", ["nonsense", "", "-", "--name", "name,email", "properties"])
    def test_an_unknown_order_is_refused(self, standing: Clients, sort: str) -> None:
        assert problem(standing.get("/api/users", sort=sort), 400)["place"] == "/sort"

    def test_a_search_finds_parts_of_all_names_in_any_case_and_takes_them_literally(
        self, client: Clients
    ) -> None:
        client.send(
            identify("id-100%", name="Émile Zola", email="emile@Example.com"),
            identify("id_1000", name="Straße 5"),
            identify("back\\slash", name="Дмитрий"),
            identify("quote'\"", name="日本語"),
            group("acme-1", traits={"name": "Acme", "domain": "acme.example"}),
        )
        for text, found in (
            ("100%", {"id-100%"}),
            ("%", {"id-100%"}),
            ("_", {"id_1000"}),
            ("\\", {"back\\slash"}),
            ("k\\s", {"back\\slash"}),
            ("'\"", {"quote'\""}),
            ("éMILE", {"id-100%"}),
            ("ZOLA", {"id-100%"}),
            ("EMILE@example", {"id-100%"}),
            ("дмИТ", {"back\\slash"}),
            ("本", {"quote'\""}),
            ("straße", {"id_1000"}),
            ("ID_", {"id_1000"}),
            ("id", {"id-100%", "id_1000"}),
            ("", {"id-100%", "id_1000", "back\\slash", "quote'\""}),
            ("acme", set()),
            ("nobody", set()),
        ):
            page = client.see("/api/users", search=text)
            assert {one["external_id"] for one in page["items"]} == found, text
            assert page["total"] == len(found)
        for text in ("ACME.exa", "acme-1", "Acme"):
            assert client.see("/api/accounts", search=text)["total"] == 1

    def test_a_search_that_is_too_long_is_refused(self, standing: Clients) -> None:
        assert problem(standing.get("/api/users", search="x" * 201), 400)["place"] == "/search"


class TestIds:
    @pytest.mark.parametrize(
        "id",
        ["a/b", "a//b/", "/", "100%", "%2F", "a b", "a+b", "?x=1#y", "é", "日本", ":", "a:b", ".."],
    )
    def test_an_outside_id_of_any_characters_names_its_subject(
        self, standing: Clients, id: str
    ) -> None:
        standing.send(group(id, id), track(id, "opened", context={"groupId": id}))
        for path in (user(id), account(id)):
            assert standing.see(path)["external_id"] == id
            assert names(standing.see(f"{path}/events")["items"]) == ["opened"]
            assert standing.see(f"{path}/timeline", total=True)["total"] >= 1
        removed = f"{account(id)}/users/{quote(f'external:{id}', safe='')}"
        standing.taken(standing("write").delete(removed))
        assert standing.see(user(id))["members"] == 0

    def test_every_form_of_an_id_names_the_same_subject(
        self, standing: Clients, ada: str, acme: str
    ) -> None:
        standing.send(
            identify(ada, email=f"{ada}@example.com".title()),
            group(acme, traits={"domain": f"{acme}.example".title()}),
        )
        address, domain = f"{ada}@example.com", f"{acme}.example"
        for kind, forms in (
            ("users", (f"external:{ada}", f"email:{address}", f"email:{address.upper()}")),
            ("accounts", (f"external:{acme}", f"domain:{domain}", f"domain:{domain.upper()}")),
        ):
            [id] = {standing.see(f"/api/{kind}/{form}")["id"] for form in forms}
            assert standing.see(f"/api/{kind}/{id}")["id"] == id

    def test_ids_match_exactly_and_by_kind(self, standing: Clients, ada: str, acme: str) -> None:
        standing.send(identify(ada), group(acme))
        u, a = standing.see(user(ada))["id"], standing.see(account(acme))["id"]
        for path in (user(ada.title()), account(ada), f"/api/users/{a}", f"/api/accounts/{u}"):
            problem(standing.get(path), 404, "not-found")

    @pytest.mark.parametrize(
        "id",
        ["ada", "external:", "email:x", "domain:a.example", "external:%00", "external:%ff", "1234",
         "external:%20", "external:" + "x" * 10_000],
    )  # fmt: skip
    def test_what_is_no_id_is_refused(self, standing: Clients, id: str) -> None:
        for tab in ("", "/timeline", "/events", "/accounts", "/properties"):
            assert problem(standing.get(f"/api/users/{id}{tab}"), 400)["place"] == "/id"


TABS = ("events", "pages", "screens", "channels", "campaigns")


class TestBelow:
    def test_every_tab_of_both_kinds_counts_with_the_first_and_last_time(
        self, standing: Clients, ada: str, acme: str
    ) -> None:
        campaign = {"campaign": {"name": "spring", "medium": "cpc"}, "groupId": acme}
        visit = {"type": "page", "userId": ada, "context": campaign}
        address = {"url": "https://shop.example/cart"}
        standing.send(
            group(acme, ada),
            *(track(ada, "opened", n, context={"groupId": acme}) for n in (9, 3, 1440 - 1)),
            *(visit | {"timestamp": at(n), "properties": address} for n in (5, 4)),
            *(visit | {"timestamp": at(n), "name": "Cart"} for n in (8, 7)),
        )
        for path in (user(ada), account(acme)):
            for tab, name, count, first, last in (
                ("events", "opened", 3, 3, 1439),
                ("pages", "shop.example/cart", 2, 4, 5),
                ("screens", "Cart", 2, 7, 8),
                ("channels", "paid", 4, 4, 8),
                ("campaigns", "spring", 4, 4, 8),
            ):
                assert standing.see(f"{path}/{tab}") == {
                    "items": [
                        {"name": name, "count": count, "first_at": at(first), "last_at": at(last)}
                    ],
                    "next": None,
                    "total": 1,
                }
            counted = {"events": 3, "pages": 2, "screens": 2, "channels": 4, "campaigns": 4}
            assert standing.see(path)["counts"] == counted

    def test_tabs_are_paged_most_frequent_first(self, standing: Clients, ada: str) -> None:
        standing.send(*(track(ada, f"event {n:02}") for n in range(30) for _ in range(n % 4 + 1)))
        items = standing.pages(user(ada, "/events"), limit=7)
        assert len(items) == 30
        assert items == sorted(items, key=lambda one: (-one["count"], one["name"]))

    def test_properties_have_type_value_and_time(self, standing: Clients, ada: str) -> None:
        standing.send(identify(ada, 1, plan="pro", age=3, born="1980-01-01", tags=["a"], ok=True))
        standing.send(identify(ada, 2, plan="free"))
        items = {one["name"]: one for one in standing.see(user(ada, "/properties"))["items"]}
        assert {name: (one["type"], one["value"]) for name, one in items.items()} == {
            "plan": ("string", "free"),
            "age": ("number", 3),
            "born": ("date", "1980-01-01"),
            "tags": ("list", ["a"]),
            "ok": ("boolean", True),
        }
        assert (items["plan"]["changed_at"], items["age"]["changed_at"]) == (at(2), at(1))

    def test_members_of_both_sides_are_paged_oldest_first(
        self, standing: Clients, ada: str, acme: str, fresh: Fresh
    ) -> None:
        user_ids = [fresh(f"u{n:03}") for n in range(120)]
        account_ids = [fresh(f"a{n:03}") for n in range(120)]
        standing.send(*(group(acme, id, n) for n, id in enumerate(user_ids)))
        standing.send(*(group(id, ada, n) for n, id in enumerate(account_ids)))
        users = standing.pages(account(acme, "/users"), limit=11)
        assert [one["external_id"] for one in users] == user_ids
        accounts = standing.pages(user(ada, "/accounts"), limit=11)
        assert [one["external_id"] for one in accounts] == account_ids
        assert standing.see(account(acme))["members"] == 120
        assert len(standing.see(account(acme))["memberships"]) == 100

    def test_a_timeline_is_newest_first_and_paged_without_skip_or_repeat(
        self, standing: Clients, ada: str
    ) -> None:
        minutes = [(n * 37) % 61 for n in range(150)]
        standing.send(*(track(ada, f"event {n % 9}", minute) for n, minute in enumerate(minutes)))
        items = standing.pages(user(ada, "/timeline"), limit=13)
        assert len(items) == len({one["position"] for one in items}) == 151
        times = [one["at"] for one in items]
        assert times == sorted(times, reverse=True)
        assert standing.see(user(ada, "/timeline"), limit=1)["total"] is None
        assert standing.see(user(ada, "/timeline"), limit=1, total=True)["total"] == 151

    def test_the_timeline_of_an_account_holds_its_users_events_in_it_alone(
        self, standing: Clients, ada: str, acme: str
    ) -> None:
        standing.send(
            identify(ada, name="Ada"),
            track(ada, "inside", 2, context={"groupId": acme}),
            track(ada, "outside", 3),
            track(acme, "alone", 4, context={"groupId": acme})
            | {"userId": None, "anonymousId": acme},
        )
        events = [
            (one["name"], one["user"] and one["user"]["name"])
            for one in standing.pages(account(acme, "/timeline"))
            if one["type"] == "event"
        ]
        assert events == [("alone", None), ("inside", "Ada")]

    def test_an_unknown_tab_or_path_or_method_is_answered_with_a_problem(
        self, standing: Clients, ada: str
    ) -> None:
        standing.send(identify(ada))
        for path in (user(ada, "/nonsense"), user(ada, "/users"), "/api/nonsense", "/v1"):
            problem(standing.get(path), 404, "not-found")
        for method, path in (
            ("PUT", "/api/users"),
            ("DELETE", user(ada)),
            ("GET", "/v1/batch"),
            ("PUT", "/api/erasures"),
        ):
            answer = standing("admin").request(method, path)
            problem(answer, 405, "method-not-allowed")
            assert answer.headers["allow"]


READS = ["/api/users", "/api/accounts"] + [
    f"{path}{tab}"
    for path, other in ((user("ada"), "accounts"), (account("acme"), "users"))
    for tab in ("", "/timeline", "/properties", f"/{other}", *(f"/{tab}" for tab in TABS))
]
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
CURSORS = ["x", "=", "\0", "é", "k2E", "a" * 9_000]
FORGED = [
    encoded(name, *keys)
    for name in (
        "timeline:newest",
        "event",
        "page",
        "members:user",
        "members:account",
        "user:-last_seen",
    )
    for keys in (
        (MOMENT, 70_000, 1),
        (MOMENT, 1, 2**63),
        (MOMENT.replace(tzinfo=None), 1, 1),
        (2**64 - 1, "opened"),
        (1, "a\0"),
        (MOMENT.replace(tzinfo=None), UUID(int=0)),
    )
]
WAITS = [
    "x", "1", ":", "1:", ":1", "-1:1", "256:1", "1:-1", "1:x", "1:1,", "0:" + "9" * 5_000,
    "0:9223372036854775807", "٣:1", "1.0:1", "0:99" + ",0:99" * 2_000,
]  # fmt: skip


@pytest.mark.parametrize("path", READS)
def test_nonsense_in_a_query_is_refused_at_its_place(standing: Clients, path: str) -> None:
    standing.send(group("acme", "ada"), track("ada", "opened"))
    assert standing.get(path).status_code == 200
    read = standing("read")
    for wait in WAITS:
        assert problem(read.get(path, params={"wait_for": wait}), 400)["place"] == "/wait_for", wait
    if path.endswith("/properties") or path in (user("ada"), account("acme")):
        return
    for limit in ("0", "-1", "501", "x", "1.5", "9" * 30, "1e3"):
        assert problem(read.get(path, params={"limit": limit}), 400)["place"] == "/limit"
    for cursor in CURSORS:
        assert problem(read.get(path, params={"cursor": cursor}), 400)["place"] == "/cursor"
    for cursor in FORGED:
        assert read.get(path, params={"cursor": cursor}).status_code in (200, 400)


@pytest.mark.parametrize("path", READS)
def test_reading_needs_a_key_of_a_scope_that_reads(standing: Clients, path: str) -> None:
    answer = standing(None).get(path)
    problem(answer, 401, "missing-key")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    for wrong in ("nobody", "é", "x" * 5_000):
        header = {"Authorization": f"Bearer {wrong}".encode("latin-1")}
        problem(standing(None).get(path, headers=header), 401, "unknown-key")
    for odd in ("", "Bearer", "Basic", "Basic !!", "Basic /w==", "Digest x"):
        problem(standing(None).get(path, headers={"Authorization": odd}), 401, "missing-key")
    problem(standing("write").get(path), 403, "wrong-scope")


def test_who_waits_for_what_it_wrote_reads_it(standing: Clients, fresh: Fresh) -> None:
    for n in range(20):
        id = fresh(f"u{n}")
        answer = standing("write").post("/v1/batch", json={"batch": [track(id, "opened")]})
        waited = standing("read").get(user(id), params={"wait_for": answer.json()["position"]})
        assert waited.json()["counts"]["events"] == 1


def test_every_id_of_a_merged_user_leads_to_the_one_it_lives_on_in(
    standing: Clients, ada: str, acme: str, fresh: Fresh
) -> None:
    visitor = fresh("visitor")
    standing.send(
        identify(visitor, city="Ghent"), group(acme, visitor), track(visitor, "opened"),
        identify(ada, email=f"{ada}@example.com"), track(ada, "opened"),
    )  # fmt: skip
    before = {standing.see(user(id))["id"] for id in (visitor, ada)}
    standing.send({"type": "alias", "userId": ada, "previousId": visitor})
    survivor = standing.see(user(ada))["id"]
    for id in (f"external:{visitor}", f"email:{ada}@example.com", *before):
        path = f"/api/users/{id}"
        seen = standing.see(path)
        assert (seen["id"], seen["counts"]["events"]) == (survivor, 2)
        assert [one["external_id"] for one in seen["memberships"]] == [acme]
        assert standing.see(f"{path}/events")["items"][0]["count"] == 2
        opened = [one for one in standing.pages(f"{path}/timeline") if one["name"] == "opened"]
        assert len(opened) == 2
    assert standing.see("/api/users", search=visitor)["total"] == 1


def test_an_alias_of_oneself_changes_nothing(standing: Clients, ada: str) -> None:
    standing.send({"type": "alias", "userId": ada, "previousId": ada})
    standing.send({"type": "alias", "userId": ada, "previousId": ada})
    assert standing.see(user(ada))["identities"] == [{"scheme": "user_id", "value": ada}]


class TestErased:
    def test_case_7_nothing_of_an_erased_user_is_left_and_the_accounts_counts_stay(
        self, client: Clients
    ) -> None:
        client.send(
            identify("ada", email="ada@example.com", name="Ada Planted", city="Ghent-Planted"),
            group("acme", "ada", context={"relationship": {"role": "Planted"}}),
            track("ada", "opened", properties={"note": "Planted"}, context={"groupId": "acme"}),
            track("ada", "", properties={"url": "https://x.example/"}, context={"groupId": "acme"})
            | {"type": "page"},
        )
        counted = client.see(account("acme"))["counts"]
        everybody = {"kind": "user", "name": "all", "condition": {"type": "all", "of": []}}
        segment = client.taken(client("admin").post("/api/segments", json=everybody))["id"]
        assert len(client.get("/api/users/export").text.splitlines()) == 2
        id = client.erase("user", "external:ada")
        for form in ("external:ada", "email:ada@example.com", id):
            for tab in ("", "/timeline", "/properties", "/accounts", *(f"/{tab}" for tab in TABS)):
                problem(client.get(f"/api/users/{form}{tab}"), 404)
        assert client.see("/api/users") == {"items": [], "next": None, "total": 0, "building": None}
        assert client.see("/api/users", search="Planted")["total"] == 0
        assert len(client.get("/api/users/export").text.splitlines()) == 1
        assert client.see(f"/api/segments/{segment}")["members"] == 0
        acme = client.see(account("acme"))
        assert acme["counts"] == counted
        [member] = acme["memberships"]
        assert (member["erased"], member["external_id"], member["role"]) == (True, None, None)
        for tab in ("", "/timeline", "/users", "/events", "/pages", "/properties"):
            answer = client.get(account("acme", tab))
            assert answer.status_code == 200
            assert "lanted" not in answer.text
            assert "ada" not in answer.text
        [event] = [
            one for one in client.pages(account("acme", "/timeline")) if one["name"] == "opened"
        ]
        assert (event["user"]["erased"], event["details"]) == (True, None)
        again = {"kind": "user", "id": "external:ada", "confirm": "confirm"}
        problem(client("comply").post("/api/erasures", json=again), 404)

    def test_the_same_identity_again_is_a_new_user_with_an_empty_history(
        self, standing: Clients, ada: str
    ) -> None:
        standing.send(identify(ada, plan="pro"), track(ada, "opened"))
        id = standing.erase("user", f"external:{ada}")
        standing.send(track(ada, "returned"))
        again = standing.see(user(ada))
        assert again["id"] != id
        assert (again["properties"], again["counts"]["events"]) == ({}, 1)

    def test_the_users_of_an_erased_account_stay(
        self, standing: Clients, ada: str, acme: str
    ) -> None:
        standing.send(group(acme, ada, traits={"name": "Acme"}))
        standing.erase("account", f"external:{acme}")
        problem(standing.get(account(acme)), 404)
        [membership] = standing.see(user(ada))["memberships"]
        assert (membership["erased"], membership["name"]) == (True, None)

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"confirm": "Confirm"}, "/confirm"),
            ({"confirm": " confirm "}, "/confirm"),
            ({"confirm": ""}, "/confirm"),
            ({"reason": "because she asked"}, "/reason"),
            ({"reason": ""}, "/reason"),
            ({"id": "ada"}, "/id"),
            ({"id": "external:ada\0"}, "/id"),
            ({"id": "external:*"}, None),
            ({"kind": "robot"}, ...),
            ({"confirm": None}, ...),
            ({"unknown": 1}, ...),
        ],
    )
    def test_an_erasure_asked_for_wrongly_erases_nothing(
        self, standing: Clients, change: dict[str, Any], place: Any, ada: str
    ) -> None:
        standing.send(identify(ada), track(ada, "opened"))
        request = {"kind": "user", "id": f"external:{ada}", "confirm": "confirm"} | change
        answer = standing("comply").post("/api/erasures", json=request)
        body = problem(answer, 404 if place is None else 400)
        assert place is ... or body.get("place") == place
        assert standing.see(user(ada))["counts"]["events"] == 1
