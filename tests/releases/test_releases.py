"""Data folders of earlier releases, opened by the code of today, and held against what the release
answered that made them. How one is made: docs/contributing.md."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from infra import embedded
from tests.folders import open_room
from tests.infra import chain
from tests.releases import folders, questions
from tests.releases.server import Server
from tests.stories.test_run import forked, invoked, run, running_forked

HERE = Path(__file__).parent
RELEASES = sorted(path.parent.name for path in HERE.glob(f"*/{folders.ARCHIVE}"))

ASKERS = 4
WORK_SECONDS = 60
"""What is counted in the background, as quick filters are, is there by then."""

JUST_SENT = "UPDATE log.message_ids SET recorded_at = now()"
"""Message ids are forgotten after 30 days: makes them as young as when the folder was stored."""


DAYS = ("2024-02-01", "2024-12-31")
"""Values that were sent as days: 0.1.0 showed them as midnight UTC."""

REGISTERED = {
    "37a63277-8c6e-4dca-9051-e5c2a3138902": {"2024-02-03T09:00:00Z": "2024-02-02T09:00:00Z"},
    "45bedab1-32a5-4fb8-b650-010a26ed8ee3": {"2024-03-08T13:00:00Z": "2024-03-08T12:00:00Z"},
}
"""By id, the registrations of two that absorbed others: as 0.1.0 showed them, and as they are."""

PARTY = {"id", "external_id", "name", "erased"}

EVIDENCE = "saw"
"""What a decision saw is recorded, and stays as it was seen."""


@pytest.mark.database
@pytest.mark.parametrize("release", RELEASES)
def test_the_data_folder_of_a_release_opens_answers_as_it_did_and_goes_on(release: str) -> None:
    stored = _with_days(json.loads((HERE / release / "answers.json").read_text()))
    stored = _with_survivors(stored, dict(_survivors(stored)))
    with open_room() as place:
        data = place / "data"
        folders.unpack(HERE / release / folders.ARCHIVE, data)
        with embedded.running(data) as url, psycopg.connect(url, dbname="annals") as conn:
            conn.execute(JUST_SENT)
        with running_forked(data) as process, Server(process.url, data) as annals:
            _answers_as_then(annals, stored["answers"])
            assert chain.problems(make_conninfo(url, dbname="annals")) == []
            _certificates_verify(annals, data, stored["answers"])
            with forked("rebuild", "--yes", data=data) as rebuild:
                assert rebuild.wait() == 0, rebuild.errors()
            _answers_as_then(annals, _with_registration(stored["answers"]))
            _history_goes_on(annals)
            _who_was_forgotten_stays_forgotten(annals, stored["answers"])


def _with_days(answers: Any) -> Any:
    if isinstance(answers, dict):
        return {name: one if name == EVIDENCE else _with_days(one) for name, one in answers.items()}
    if isinstance(answers, list):
        return [_with_days(one) for one in answers]
    if isinstance(answers, str):
        for day in DAYS:
            answers = answers.replace(f"{day}T00:00:00Z", day)
    return answers


def _survivors(answers: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parties that merged subjects live on in, by the id of the merged."""
    if isinstance(answers, dict):
        if answers.get("type") == "absorbed" and isinstance(answers.get("details"), dict):
            party = answers["user"] or answers["account"]
            yield from ((other, party) for other in answers["details"]["others"])
        answers = list(answers.values())
    if isinstance(answers, list):
        for one in answers:
            yield from _survivors(one)


def _with_survivors(
    answers: Any, survivors: dict[str, dict[str, Any]], *, names_users: bool = True
) -> Any:
    """0.1.0 showed a merged party of an event under an id of its own, without a name. The review
    of an account names no user."""
    if isinstance(answers, dict):
        if answers.keys() == PARTY and answers["id"] in survivors and not answers["erased"]:
            return survivors[answers["id"]]
        shown = {}
        for name, one in answers.items():
            names = names_users and not ("/accounts/" in name and "/review" in name)
            shown[name] = _with_survivors(one, survivors, names_users=names)
            if name == "user" and one is not None and not names_users:
                shown[name] = shown[name] | {"external_id": None, "name": None}
        return shown
    if isinstance(answers, list):
        return [_with_survivors(one, survivors, names_users=names_users) for one in answers]
    return answers


def _with_registration(answers: Any, *, of: str = "") -> Any:
    """0.1.0 did not show that who was merged was on record earlier than the survivor; a rebuild
    does. `of`: the id of the subject that a line is about."""
    if isinstance(answers, dict):
        of = str(answers.get("id", ""))
        return {
            name: REGISTERED.get(of, {}).get(one, one)
            if name == "registered_at" and isinstance(one, str)
            else _with_registration(one, of=of)
            for name, one in answers.items()
        }
    if isinstance(answers, list):
        return [_with_registration(one) for one in answers]
    if isinstance(answers, str) and "registered_at" in answers:
        lines = answers.splitlines(keepends=True)
        for subject, earlier in REGISTERED.items():
            [(then, now)] = earlier.items()
            # The time of a registration is the first of a line that has it.
            lines = [line.replace(then, now, 1) if subject in line else line for line in lines]
        return "".join(lines)
    return answers


def _answers_as_then(annals: Server, then: dict[str, Any]) -> None:
    """All questions of then are asked again; those that meet work under way, more than once."""
    deadline, left = time.monotonic() + WORK_SECONDS, dict(then)
    while left:
        with ThreadPoolExecutor(ASKERS) as askers:
            now = dict(zip(left, askers.map(partial(questions.answer, annals), left), strict=True))
        found = list(questions.differences(left, now))
        assert not found or time.monotonic() < deadline, "\n".join(found)
        left = {question: answer for question, answer in left.items() if answer != now[question]}


def _certificates_verify(annals: Server, data: Path, then: dict[str, Any]) -> None:
    """All of them off line, and the newest with the log, too."""
    key, file = data / "annals.pem", data / "certificate.json"
    key.write_bytes(annals.request("GET", "/api/erasures/public-key", "comply").content)
    words = ("verify-certificate", str(file), "--public-key", str(key))
    paths = [
        path for path in (one.partition(" ")[2] for one in then) if path.endswith("/certificate")
    ]
    for path in reversed(paths):
        file.write_bytes(annals.request("GET", path, "comply").content)
        assert invoked(*words, data=data).exit_code == 0
    assert run(*words, "--with-log", data=data).returncode == 0


def _history_goes_on(annals: Server) -> None:
    """A message of then is known, a new one is added to what its user was told before."""
    sent = {"type": "identify", "userId": "ada", "traits": {"plan": "team", "nickname": None}}
    [known, taken] = annals.send([sent | {"messageId": "first-0"}, sent | {"messageId": "today"}])
    assert (known["status"], taken["status"]) == ("duplicate", "stored")
    properties = annals.get("/api/users/{id}", id="external:ada")["properties"]
    assert properties["plan"] == "team"
    assert "nickname" not in properties
    assert properties["signed_up"] == "2024-02-01"
    [newest, *_] = annals.get("/api/users/{id}/timeline?type=property", id="external:ada")["items"]
    changes = {change["name"]: (change["before"], change["after"]) for change in newest["changes"]}
    assert changes == {"plan": ("pro", "team"), "nickname": ("Countess", None)}


def _who_was_forgotten_stays_forgotten(annals: Server, then: dict[str, Any]) -> None:
    bob = {"type": "identify", "userId": "bob", "traits": {"name": "Bob"}}
    answer = annals.post("/v1/batch", {"batch": [bob]}, "write")
    assert [result["code"] for result in answer["results"]] == ["suppressed"]
    erased = {
        one["subject"]
        for question, stored in then.items()
        if "/subjects?" in question
        for one in stored["answer"]["items"]
        if one["outcome"] == "erased"
    }
    assert len(erased) == 5
    for kind in ("users", "accounts"):
        for id in (*erased, "external:bob", "external:carl", "external:hooli"):
            assert annals.request("GET", f"/api/{kind}/{{id}}", "read", id=id).status_code == 404
