"""Commands become events: who is meant, what is stored, and what of writers that race or die."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from domain.commands import Duplicate, Outcome, Refused, Request, Stored
from domain.events.payloads import MembershipStarted, Tracked
from domain.identity import Merge, SubjectId, SubjectKind
from infra.bootstrap.annals import Annals
from infra.keys.identity_index import IdentityIndex
from infra.write.command_handler import CommandHandler
from tests.commands import AT, alias, group, identify, leave, named, track, values
from tests.infra.commands import begun, events_of, loaded, send, stored, subject_of, user_of


def new() -> SubjectId:
    return SubjectId(uuid.uuid4())


def lookup_of(annals: Annals) -> IdentityIndex:
    return annals.handler._identities


def activities(annals: Annals, *streams: SubjectId) -> list[str]:
    return [
        one.payload.activity.name
        for one in events_of(annals, *streams)
        if isinstance(one.payload, Tracked)
    ]


class TestIdentities:
    def test_a_subject_seen_under_either_name_is_the_same(self, annals: Annals) -> None:
        stored(annals, identify("u1 Ada@Example.com", plan="pro"), track("u1"))
        stored(annals, identify("ada@example.COM", city="Ghent"))
        assert subject_of(annals, "u1") == subject_of(annals, "ADA@example.com")
        assert user_of(annals, "u1").properties == {"plan": "pro", "city": "Ghent"}
        assert subject_of(annals, "U1") is None

    def test_a_name_that_comes_with_tracked_activity_is_on_record(self, annals: Annals) -> None:
        stored(annals, track("u1"))
        stored(annals, track("u1 ada@example.com", "a1"))
        stored(annals, track("u1", "a1 example.com"))
        assert values(user_of(annals, "u1").identities) == ["u1", "ada@example.com"]
        assert values(loaded(annals, "a1").identities) == ["a1", "example.com"]
        assert len(begun(annals, SubjectKind.USER)) == 1

    def test_identities_that_turn_out_to_be_one_user_are_merged(self, annals: Annals) -> None:
        stored(annals, identify("u1", plan="pro"), identify("ada@example.com", plan="free", age=36))
        first, second = subject_of(annals, "u1"), subject_of(annals, "ada@example.com")
        stored(annals, identify("u1 ada@example.com"))
        assert subject_of(annals, "ada@example.com") == first
        survivor = user_of(annals, "ada@example.com")
        assert survivor.absorbed == (second,)
        assert survivor.properties == {"plan": "pro", "age": 36}
        assert values(survivor.identities) == ["u1", "ada@example.com"]

    def test_an_alias_names_the_user_first_and_what_it_was_before_second(
        self, annals: Annals
    ) -> None:
        stored(annals, track("u2", "", "old"), track("u1", "", "new"))
        kept, gone = subject_of(annals, "u1"), subject_of(annals, "u2")
        stored(annals, alias("u1", "u2"), track("u2", "", "after"))
        assert subject_of(annals, "u2") == kept
        assert activities(annals, kept) == ["new", "after"]
        assert activities(annals, gone) == ["old"]

    @pytest.mark.parametrize("batches", [1, 2])
    def test_a_chain_of_merges_ends_in_one_subject(self, annals: Annals, batches: int) -> None:
        stored(annals, *(identify(f"u{n}", **{f"p{n}": n}) for n in range(4)))
        ids = [subject_of(annals, f"u{n}") for n in range(4)]
        merges = [alias("u1", "u0"), alias("u2", "u1"), alias("u3", "u2")]
        if batches == 1:
            stored(annals, *merges, track("u0", "", "after"))
        else:
            for one in [*merges, track("u0", "", "after")]:
                stored(annals, one)
        assert {subject_of(annals, f"u{n}") for n in range(4)} == {ids[3]}
        survivor = user_of(annals, "u0")
        assert set(survivor.absorbed) == set(ids[:3])
        assert survivor.properties == {"p0": 0, "p1": 1, "p2": 2, "p3": 3}
        assert sorted(values(survivor.identities)) == ["u0", "u1", "u2", "u3"]
        assert activities(annals, *ids) == activities(annals, ids[3]) == ["after"]

    def test_memberships_move_to_the_survivor_with_their_dates(self, annals: Annals) -> None:
        later = AT + timedelta(days=2)
        stored(annals, group("u1", "a1", role="owner"), group("u2", "a2"), group("u2", "a1"))
        stored(annals, leave("u2", "a2", later), alias("u1", "u2", later + timedelta(days=1)))
        first, second = subject_of(annals, "a1"), subject_of(annals, "a2")
        memberships = user_of(annals, "u2").memberships
        assert memberships[first].properties == {"role": "owner"}
        assert (memberships[second].started_at, memberships[second].ended_at) == (AT, later)
        assert set(memberships) == {first, second}


class TestBatches:
    def test_a_batch_that_arrives_again_is_stored_once(self, annals: Annals) -> None:
        requests = [Request(track("u1", "", str(n)), f"m{n}") for n in range(5)]
        assert all(isinstance(outcome, Stored) for outcome in annals.handler.handle(requests[:3]))
        again = annals.handler.handle(requests)
        assert [type(outcome) for outcome in again] == [Duplicate] * 3 + [Stored] * 2
        assert activities(annals, subject_of(annals, "u1")) == ["0", "1", "2", "3", "4"]

    def test_a_batch_that_several_servers_get_at_once_is_stored_once(
        self, annals: Annals, open_annals: Callable[[], Annals]
    ) -> None:
        servers = [annals, open_annals(), open_annals()]
        requests = [Request(track(f"u{n % 7}", "a1", f"e{n}"), f"m{n}") for n in range(40)]
        start = threading.Barrier(len(servers))

        def run(n: int) -> list[object]:
            mine = requests[n * 10 :] + requests[: n * 10]
            start.wait()
            return list(servers[n].handler.handle(mine))

        with ThreadPoolExecutor() as threads:
            answers = [one for answer in threads.map(run, range(3)) for one in answer]
        assert sum(isinstance(outcome, Stored) for outcome in answers) == 40
        assert sum(isinstance(outcome, Duplicate) for outcome in answers) == 80
        users = [subject_of(annals, f"u{n}") for n in range(7)]
        assert sorted(activities(annals, *users)) == sorted(f"e{n}" for n in range(40))
        assert begun(annals, SubjectKind.USER) == set(users)

    def test_one_refused_command_leaves_the_rest_of_the_batch(self, annals: Annals) -> None:
        answers = send(annals, identify("u1"), leave("u1", "a9"), track("u1"))
        assert [type(outcome) for outcome in answers] == [Stored, Refused, Stored]
        assert subject_of(annals, "a9") is None

    def test_a_refused_message_may_be_sent_again(self, annals: Annals) -> None:
        request = Request(leave("u1", "a1"), "m1")
        [once, twice] = annals.handler.handle([request, request])
        assert isinstance(once, Refused)
        assert twice == once
        stored(annals, group("u1", "a1"))
        assert isinstance(annals.handler.handle([request])[0], Stored)
        [membership] = user_of(annals, "u1").memberships.values()
        assert membership.ended_at == AT

    def test_a_value_of_another_type_is_refused_alone_and_by_name(self, annals: Annals) -> None:
        stored(annals, identify("u1", seats=3))
        [answer] = send(annals, identify("u1", seats="many", plan="pro"))
        assert isinstance(answer, Stored)
        assert [value.name for value in answer.refused] == ["seats"]
        assert user_of(annals, "u1").properties == {"seats": 3, "plan": "pro"}

    def test_what_changes_nothing_is_no_event(self, annals: Annals) -> None:
        stored(annals, identify("u1", plan="pro"), group("u1", "a1", role="owner"))
        before = annals.log.heads(range(256))
        stored(annals, identify("u1", plan="pro"), group("u1", "a1", role="owner"))
        assert annals.log.heads(range(256)) == before

    def test_a_positions_answer_names_what_the_command_reached(self, annals: Annals) -> None:
        answers = send(annals, group("u1", "a1"), track("u1", "a1"))
        for answer in answers:
            assert isinstance(answer, Stored)
            for place in answer.positions:
                assert annals.log.heads([place.log_partition])[place.log_partition] >= (
                    place.position
                )
        reached = {
            place.log_partition: place.position for one in answers for place in one.positions
        }
        heads = annals.log.heads(range(256))
        assert reached == {partition: head for partition, head in heads.items() if head}


class TestRaces:
    @pytest.mark.parametrize(
        "asked",
        [
            ["u1", "u1", "u1"],
            ["u1 ada@example.com", "ada@example.com u1", "u1 ada@example.com"],
            ["u1 ada@example.com", "ada@example.com", "u1"],
        ],
    )
    def test_servers_that_meet_a_new_user_at_once_end_with_one_subject(
        self, annals: Annals, open_annals: Callable[[], Annals], asked: list[str]
    ) -> None:
        servers = [annals, open_annals(), open_annals()]
        for round_ in range(8):
            start = threading.Barrier(len(servers))

            def run(n: int, round_: int = round_, start: threading.Barrier = start) -> None:
                who = asked[n].replace("u1", f"u{round_}").replace("ada", f"ada{round_}")
                start.wait()
                stored(servers[n], track(who, "", f"by {n}"))

            with ThreadPoolExecutor() as threads:
                list(threads.map(run, range(len(servers))))
            stored(annals, identify(f"u{round_} ada{round_}@example.com"))
            survivor = user_of(annals, f"u{round_}")
            assert survivor.id == subject_of(annals, f"ada{round_}@example.com")
            everything = activities(annals, survivor.id, *survivor.absorbed)
            assert sorted(everything) == ["by 0", "by 1", "by 2"]

    def test_a_claim_that_another_writer_won_leaves_no_half_made_subject(
        self, annals: Annals
    ) -> None:
        stored(annals, identify("ada@example.com"))
        claims = {named("u1"): new(), named("ada@example.com"): new()}
        assert not lookup_of(annals).claim(claims)
        assert subject_of(annals, "u1") is None
        stored(annals, identify("u1 ada@example.com"))
        assert len(begun(annals, SubjectKind.USER)) == 1

    @pytest.mark.parametrize("command", [track("u1"), identify("u1"), group("u1", "a1")])
    def test_an_event_after_a_crash_uses_the_claim_that_was_left(
        self, annals: Annals, command: object
    ) -> None:
        claimed = new()
        assert lookup_of(annals).claim({named("u1"): claimed})
        stored(annals, command)
        assert subject_of(annals, "u1") == claimed
        assert values(user_of(annals, "u1").identities) == ["u1"]
        assert begun(annals, SubjectKind.USER) == {claimed}

    def test_a_claim_that_was_left_joins_another_subject(self, annals: Annals) -> None:
        claimed = new()
        assert lookup_of(annals).claim({named("u1"): claimed})
        stored(annals, identify("u2"))
        stored(annals, alias("u2", "u1"), track("u1"))
        assert begun(annals, SubjectKind.USER) == {subject_of(annals, "u1")}
        assert values(user_of(annals, "u1").identities) == ["u2", "u1"]
        assert user_of(annals, "u1").absorbed == (claimed,)

    @pytest.mark.parametrize(
        "command", [identify("u2", x=1), group("u2", "a1"), alias("u1", "u2"), identify("u2 u3")]
    )
    def test_a_merge_that_was_cut_short_before_its_lookups_heals(
        self, annals: Annals, monkeypatch: pytest.MonkeyPatch, command: object
    ) -> None:
        stored(annals, identify("u1"), identify("u2"), identify("u3"))
        kept, gone = subject_of(annals, "u1"), subject_of(annals, "u2")

        def die(_: list[Merge]) -> None:
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(lookup_of(annals), "repoint", die)
            with pytest.raises(SystemExit):
                send(annals, alias("u1", "u2"))
        assert subject_of(annals, "u2") == gone
        stored(annals, command)
        assert subject_of(annals, "u2") == kept
        assert gone in user_of(annals, "u1").absorbed
        assert user_of(annals, "u1").absorbed.count(gone) == 1

    def test_writers_that_change_one_subject_at_once_lose_no_change(
        self, annals: Annals, open_annals: Callable[[], Annals]
    ) -> None:
        servers = [annals, open_annals()]

        def run(n: int) -> None:
            for m in range(10):
                stored(servers[n % 2], identify("u1", **{f"p{n}": m}))

        with ThreadPoolExecutor() as threads:
            list(threads.map(run, range(4)))
        assert user_of(annals, "u1").properties == {f"p{n}": 9 for n in range(4)}

    def test_senders_to_one_server_about_one_user_never_have_it_decided_anew(
        self, annals: Annals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored(annals, identify("u1"))
        looks: list[int] = []
        attempt = CommandHandler._attempt

        def counted(
            self: CommandHandler, requests: Sequence[Request], stopped: frozenset[int]
        ) -> list[Outcome]:
            looks.append(len(requests))
            return attempt(self, requests, stopped)

        monkeypatch.setattr(CommandHandler, "_attempt", counted)

        def run(n: int) -> None:
            for m in range(10):
                stored(annals, identify("u1", **{f"p{n}": m}))

        with ThreadPoolExecutor() as threads:
            list(threads.map(run, range(5)))
        assert sum(looks) == 50
        assert user_of(annals, "u1").properties == {f"p{n}": 9 for n in range(5)}

    def test_users_that_are_merged_by_two_servers_at_once_end_as_one(
        self, annals: Annals, open_annals: Callable[[], Annals]
    ) -> None:
        servers = [annals, open_annals()]
        for n in range(6):
            stored(annals, identify(f"u{n}1"), identify(f"u{n}2"), identify(f"u{n}3"))
            start = threading.Barrier(2)
            merges = [alias(f"u{n}1", f"u{n}2"), alias(f"u{n}2", f"u{n}{1 + 2 * (n % 2)}")]

            def run(
                m: int, merges: list[object] = merges, start: threading.Barrier = start
            ) -> None:
                start.wait()
                stored(servers[m], merges[m])

            with ThreadPoolExecutor() as threads:
                list(threads.map(run, range(2)))
            stored(annals, identify(f"u{n}1 u{n}2 u{n}3"))
            ids = {subject_of(annals, f"u{n}{m}") for m in (1, 2, 3)}
            assert len(ids) == 1
            survivor = user_of(annals, f"u{n}1")
            assert len(survivor.absorbed) == len(set(survivor.absorbed)) == 2


def test_a_member_that_comes_back_starts_anew(annals: Annals) -> None:
    days = [AT + timedelta(days=n) for n in range(3)]
    stored(annals, group("u1", "a1", days[0], role="owner"), leave("u1", "a1", days[1]))
    [record] = user_of(annals, "u1").memberships.values()
    assert (record.started_at, record.ended_at) == (days[0], days[1])
    stored(annals, group("u1", "a1", days[2], role="guest"))
    [record] = user_of(annals, "u1").memberships.values()
    assert (record.started_at, record.ended_at, record.properties) == (
        days[2],
        None,
        {"role": "guest"},
    )
    starts = [
        one
        for one in events_of(annals, subject_of(annals, "u1"))
        if isinstance(one.payload, MembershipStarted)
    ]
    assert len(starts) == 2
