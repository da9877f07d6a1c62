"""The demo data: what it is made of, and that loading it keeps order, retries and counts."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest

from api.demo import Message, company, rules, shop, sources, wikipedia
from api.demo.load import LoadReport, connection_of, load
from api.demo.sender import LoadError
from tests.serving import Clients, until

UNTIL = datetime(2026, 5, 13, 15, 4, 5, tzinfo=UTC)
DATA = Path(
    os.environ.get("ANNALS_DEMO_DATA", Path(__file__).parents[3].parent / "shared" / "data")
)
needs_data = pytest.mark.skipif(
    not (DATA / "wikipedia-edits.ndjson.gz").is_file(),
    reason="the demo data files are not here; set ANNALS_DEMO_DATA to their folder",
)
KEY = "a-write-key"

Trouble = tuple[int, dict[str, str], bytes]


def drawn(**sizes: int) -> list[Message]:
    return list(
        company.messages(**({"users": 300, "accounts": 20, "events": 4_000} | sizes), until=UNTIL)
    )


made_up = cache(drawn)
"""For tests that change none of the messages."""


def types(messages: list[Message]) -> Counter[object]:
    return Counter(message["type"] for message in messages)


def part(message: Message, name: str) -> dict[str, Any]:
    value = message.get(name, {})
    assert isinstance(value, dict)
    return value


def ids_are_unique(messages: list[Message]) -> bool:
    return len({message["messageId"] for message in messages}) == len(messages)


class TestCompany:
    def test_the_same_arguments_give_the_same_messages(self) -> None:
        assert drawn() == made_up()

    def test_another_seed_gives_other_messages_under_other_ids(self) -> None:
        one, other = ({m["messageId"] for m in made_up(seed=seed)} for seed in (1, 2))
        assert not one & other

    def test_it_makes_all_six_calls(self) -> None:
        assert set(types(made_up())) == {"identify", "group", "track", "page", "screen", "alias"}

    def test_every_message_id_is_unique(self) -> None:
        assert ids_are_unique(made_up())

    @pytest.mark.parametrize(("users", "accounts"), [(1, 0), (1, 1), (2, 2), (300, 20)])
    def test_it_has_as_many_users_and_accounts_as_asked_for(
        self, users: int, accounts: int
    ) -> None:
        messages = made_up(users=users, accounts=accounts)
        emails = [
            part(m, "traits")["email"]
            for m in messages
            if m["type"] == "identify" and "email" in part(m, "traits")
        ]
        domains = [part(m, "traits")["domain"] for m in messages if "domain" in part(m, "traits")]
        assert len(emails) == len({email.casefold() for email in emails}) == users
        assert len(domains) == len(set(domains)) == accounts

    def test_it_draws_exactly_as_many_events_as_asked_for(self) -> None:
        few, many = types(made_up(events=100)), types(made_up(events=1_100))
        assert many.total() - few.total() == 1_000

    def test_everything_is_in_the_order_of_its_time_and_none_is_after_the_end(self) -> None:
        times = [str(message["timestamp"]) for message in made_up()]
        assert times == sorted(times)
        assert datetime.fromisoformat(times[-1]) <= UNTIL

    def test_a_user_is_identified_before_it_does_anything(self) -> None:
        identified: set[object] = set()
        for message in made_up():
            user = message.get("userId")
            if message["type"] == "identify":
                identified.add(user)
            elif user is not None and message["type"] != "alias":
                assert user in identified or str(user).startswith("visitor_")

    def test_an_event_of_an_account_alone_names_the_account_twice(self) -> None:
        alone = [message for message in made_up() if "anonymousId" in message]
        assert alone
        for message in alone:
            assert "userId" not in message
            assert part(message, "context")["groupId"] == message["anonymousId"]

    def test_a_few_users_cause_much_of_the_activity(self) -> None:
        active = Counter(
            m["userId"] for m in made_up() if m["type"] in ("track", "screen") and "userId" in m
        )
        assert sum(count for _, count in active.most_common(30)) > active.total() * 0.4

    def test_the_intake_takes_every_message_whole(self) -> None:
        msgspec = pytest.importorskip("msgspec")
        segment = pytest.importorskip("api.intake.segment")
        calls = pytest.importorskip("api.intake.calls")
        for message in made_up():
            read = msgspec.convert(message, segment.Message)
            assert calls.request(read, UNTIL, UNTIL).refused == ()

    def test_impossible_sizes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="no more accounts than users"):
            made_up(users=1, accounts=2)
        with pytest.raises(ValueError, match="zone"):
            company.messages(until=UNTIL.replace(tzinfo=None))


@pytest.fixture(scope="module")
def edits() -> list[Message]:
    return list(wikipedia.messages(DATA / "wikipedia-edits.ndjson.gz"))


@pytest.fixture(scope="module")
def clicks() -> list[Message]:
    return list(shop.messages(DATA / "shop-clickstream.csv.gz"))


@needs_data
class TestRealData:
    def test_wikipedia_is_39_244_edits_by_10_531_users_in_51_wikis(
        self, edits: list[Message]
    ) -> None:
        messages = edits
        assert types(messages)["track"] == 39_244
        assert len({message["userId"] for message in messages}) == 10_531
        groups = [message for message in messages if message["type"] == "group"]
        assert len({group["groupId"] for group in groups}) == 51
        assert sum("traits" in group for group in groups) == 51
        assert ids_are_unique(messages)
        known: set[object] = set()
        for message in messages:
            if message["type"] == "identify":
                known.add(message["userId"])
            assert message["userId"] in known
            assert None not in (part(message, "traits") | part(message, "properties")).values()

    def test_the_shop_has_a_page_a_screen_or_a_deed_for_each_of_31_106_rows(
        self, clicks: list[Message]
    ) -> None:
        messages = clicks
        count = types(messages)
        assert count["page"] + count["screen"] + count["track"] == 31_106
        assert min(count["page"], count["screen"], count["track"]) > 2_000
        assert len({message["userId"] for message in messages}) == 600
        assert ids_are_unique(messages)
        campaigns = sum("campaign" in part(message, "context") for message in messages)
        assert 0 < campaigns < 3_605
        assert all("name" not in message for message in messages if message["type"] == "page")

    def test_the_files_of_a_folder_are_its_sources(
        self, edits: list[Message], clicks: list[Message]
    ) -> None:
        found = sources(DATA, UNTIL)
        assert [source.title for source in found] == ["Wikipedia edits", "Web shop"]
        for source, messages in zip(found, (edits, clicks), strict=True):
            assert source.total == len(messages)
            assert list(islice(source.messages(), 1_000)) == messages[:1_000]

    def test_their_rules_make_one_list_of_stages_a_kind_and_ask_for_what_is_known(
        self, client: Clients
    ) -> None:
        found = sources(DATA, UNTIL)
        for source in found:
            client.send(*islice(source.messages(), rules.KNOWN_AFTER))
        client.see("/api/users")
        rules.define(client("admin"), [source.rules for source in found])
        stages = {"Robot", "Newcomer", "Buyer", "Shopper", "Visitor"}
        until(lambda: stages <= {one["stage"] for one in client.see("/api/users/bars")["stages"]})


def test_without_data_files_the_source_is_the_made_up_company(tmp_path: Path) -> None:
    total = sum(1 for _ in company.messages(until=UNTIL))
    for folder in (None, tmp_path):
        [source] = sources(folder, UNTIL)
        assert (source.title, source.total) == ("Demo company", total)


def test_the_rules_of_the_company_are_defined_once_when_its_first_messages_are_known(
    client: Clients,
) -> None:
    client.send(*islice(company.messages(until=UNTIL), rules.KNOWN_AFTER))
    client.see("/api/users")
    of = ("stages", "health_profile", "score", "signal", "segment")

    def defined() -> Counter[tuple[str, str]]:
        found = client.pages("/api/definitions")
        return Counter((one["definition"]["type"], one["status"]) for one in found)

    for _ in range(2):
        rules.define(client("admin"), [rules.COMPANY])
        until(lambda: defined() == {(one, "active"): 2 for one in of})
    until(lambda: client.see("/api/accounts/bars")["stages"][0]["stage"] is not None)


class Intake(ThreadingHTTPServer):
    """Answers as the intake does, once `troubles` (status, headers, body) are used up."""

    def __init__(self, *troubles: Trouble) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.troubles = list(troubles)
        self.requests = 0
        self.batches: list[list[dict[str, Any]]] = []
        self.seen: set[str] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Intake

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests += 1
            if self.server.troubles:
                return self._answer(*self.server.troubles.pop(0))
            if self.path != "/v1/batch" or self.headers["Authorization"] != f"Bearer {KEY}":
                return self._answer(401, {}, b'{"detail": "a valid key is needed"}')
            assert datetime.fromisoformat(body["sentAt"]).tzinfo is not None
            self.server.batches.append(body["batch"])
            results = [{"status": self._status(m), "refused": []} for m in body["batch"]]
        return self._answer(200, {}, json.dumps({"success": True, "results": results}).encode())

    def _status(self, message: dict[str, Any]) -> str:
        if message.get("type") == "alias":
            return "refused"
        is_new = message["messageId"] not in self.server.seen
        self.server.seen.add(message["messageId"])
        return "stored" if is_new else "duplicate"

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def intake(*troubles: Trouble) -> Iterator[Intake]:
    with Intake(*troubles) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def by_user(messages: Iterable[Message]) -> dict[object, list[object]]:
    """The ids of messages in their order, by user."""
    ids: defaultdict[object, list[object]] = defaultdict(list)
    for message in messages:
        if "userId" in message:
            ids[message["userId"]].append(message["messageId"])
    return ids


def sent(server: Intake, messages: list[Message], **options: Any) -> LoadReport:
    return load(messages, url=server.url, write_key=KEY, title="Demo", **options)


class TestLoad:
    def test_every_message_arrives_once_in_batches_of_the_size_asked_for(self) -> None:
        messages = made_up()
        with intake() as server:
            report = sent(server, messages, batch=50, connections=3, total=len(messages))
        arrived = [message["messageId"] for batch in server.batches for message in batch]
        assert sorted(arrived) == sorted(str(message["messageId"]) for message in messages)
        assert max(len(batch) for batch in server.batches) == 50
        assert report.sent == len(messages)
        assert report.refused == types(messages)["alias"] > 0
        assert report.stored == report.sent - report.refused
        assert report.seconds > 0

    def test_what_is_about_one_user_arrives_in_its_order(self) -> None:
        messages = made_up()
        with intake() as server:
            sent(server, messages, batch=20, connections=4)
        assert by_user(chain(*server.batches)) == by_user(messages)

    def test_all_connections_get_work_and_an_account_alone_has_its_place(self) -> None:
        messages = made_up()
        assert {connection_of(message, 4) for message in messages} == {0, 1, 2, 3}
        alone: Message = {"type": "track", "anonymousId": "acc_1"}
        assert connection_of(alone, 8) == connection_of({"userId": "acc_1"}, 8)

    def test_loading_twice_doubles_nothing(self) -> None:
        messages = [message for message in made_up() if message["type"] != "alias"]
        with intake() as server:
            sent(server, messages)
            again = sent(server, messages)
        assert (again.stored, again.duplicates) == (0, len(messages))

    def test_it_waits_as_long_as_an_overloaded_server_asks(self) -> None:
        messages = made_up(events=10)
        with intake((503, {"Retry-After": "1"}, b"busy"), (429, {}, b"{}")) as server:
            report = sent(server, messages, connections=1, batch=2_000)
        assert server.requests == 3
        assert report.sent == len(messages)
        assert report.seconds >= 1.2

    def test_a_refused_batch_stops_the_load_with_the_reason(self) -> None:
        refusal: Trouble = (403, {}, b'{"detail": "this key may only read"}')
        with (
            intake(refusal, refusal) as server,
            pytest.raises(LoadError, match="403: this key may only read"),
        ):
            sent(server, made_up(), batch=10)
        assert server.requests <= 2

    def test_an_answer_that_is_not_the_intakes_is_an_error(self) -> None:
        with (
            intake((200, {}, b"<html>")) as server,
            pytest.raises(LoadError, match="not that of Annals"),
        ):
            sent(server, made_up(), connections=1)

    def test_an_error_in_the_source_ends_the_load(self) -> None:
        def broken() -> Iterator[Message]:
            yield from made_up(events=10)
            raise RuntimeError("the file is cut short")

        with intake() as server, pytest.raises(RuntimeError, match="cut short"):
            load(broken(), url=server.url, write_key=KEY, title="Demo")

    def test_progress_is_plain_lines_where_there_is_no_terminal(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.demo.progress.SECONDS_BETWEEN_LINES", 0.0)
        messages = made_up(events=10)
        with intake() as server:
            sent(server, messages, total=len(messages))
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith(f"Demo: {len(messages):,} of {len(messages):,}, ")
        assert not any("\x1b" in line for line in lines)
