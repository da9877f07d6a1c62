"""Case 29: whoever may not know is told the same of the erased and of those who never were: status,
headers and body, after the same statements sent to the database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from litestar.testing import TestClient

from api.app import create_app
from domain.access import ApiScope
from domain.conditions.language import AllOf
from domain.identity import SubjectKind
from infra import api_keys
from infra.bootstrap.annals import Annals
from infra.write import definition_store
from tests.commands import group, identify, track
from tests.infra.commands import stored, subject_of
from tests.infra.erasures import carried_through, erase
from tests.projections.definitions import activate, stages
from tests.projections.read_models import project
from tests.projections.segments import define
from tests.serving import KEYS_FILE

MAY_KNOW = {ApiScope.COMPLY}
QUERIES = {"why": {"of": "stage"}, "days": {"name": "login"}}
BODIES = {"stage": {"stage": None, "reason": "because"}}


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that this process sends to the database."""
    sent: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("execute", "executemany"):
            real = getattr(psycopg.Cursor, name)

            def noted(
                cursor: Any, statement: Any, *rest: Any, real: Any = real, **named: Any
            ) -> Any:
                sent.append(str(statement))
                return real(cursor, statement, *rest, **named)

            patch.setattr(psycopg.Cursor, name, noted)
        yield sent


class Asking:
    """A process that serves, and nothing in the background that would send statements too."""

    def __init__(self, annals: Annals, client: TestClient[Any]) -> None:
        self.annals = annals
        self.client = client
        self.keys = annals.api_keys.at_hand(annals.settings.data / KEYS_FILE)
        schema = client.app.openapi_schema.to_schema()["paths"]
        self.routes = [
            (method.upper(), path)
            for path, operations in schema.items()
            for method in operations
            if "{" in path and path.split("/")[2] in ("users", "accounts")
        ]

    def __call__(
        self, scope: ApiScope, method: str, path: str, id: str, body: Any = None
    ) -> tuple[tuple[int, dict[str, str], str], list[str]]:
        """An answer, with what was asked for left out, and the statements that it took."""
        end = path.rpartition("/")[2]
        path = re.sub(r"{id\w*(:\w+)?}", quote(id, safe=""), path, count=1)
        path = path.replace("{tab}", "events")
        path = re.sub(r"{\w+}", quote("external:other", safe=""), path)
        headers = {"Authorization": f"Bearer {self.keys[scope.value]}"}
        with counted() as sent:
            answer = self.client.request(
                method, path, params=QUERIES.get(end, {}), headers=headers, json=body
            )
        text = answer.text.replace(id, "...").replace(quote(id, safe=""), "...")
        headers = dict(answer.headers) | {"content-length": str(len(text))}
        headers.pop("ratelimit", None)  # it counts what the key asks, whomever about
        return (answer.status_code, headers, text), sent


@pytest.fixture
def asking(annals: Annals, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    for kind in SubjectKind:
        activate(annals, stages(kind, trial=AllOf([])))
    monkeypatch.setattr(definition_store, "RECENT_SECONDS", 3_600.0)
    monkeypatch.setattr(api_keys, "CACHE_SECONDS", 3_600.0)
    with TestClient(create_app(annals)) as client:
        yield Asking(annals, client)


def gone(annals: Annals) -> dict[SubjectKind, list[tuple[str, str]]]:
    """Ids of a user and an account who are erased, each with one of somebody who never was."""
    stored(
        annals,
        identify("u1 ada@example.com", name="Ada"),
        group("u1", "a1", role="owner"),
        track("u1", "a1"),
        identify("u2"),
        group("u2", "a2"),
    )
    project(annals)
    user, account = subject_of(annals, "u1"), subject_of(annals, "a1")
    for id, kind in ((user, SubjectKind.USER), (account, SubjectKind.ACCOUNT)):
        carried_through(annals, erase(annals, id, kind).id)
    of_same_shape = str.maketrans("abcdef0123456789", "bcdefa1234567890")
    never = str(user).translate(of_same_shape)
    return {
        SubjectKind.USER: [
            (str(user), never),
            ("external:u1", "external:u7"),
            ("email:ada@example.com", "email:eve@example.com"),
        ],
        SubjectKind.ACCOUNT: [
            (str(account), str(account).translate(of_same_shape)),
            ("external:a1", "external:a7"),
        ],
    }


def test_case_29_the_erased_and_those_who_never_were_are_told_apart_by_nothing(
    asking: Asking,
) -> None:
    ids = gone(asking.annals)
    assert len(asking.routes) > 25
    told_apart = []
    for method, path in asking.routes:
        kind = SubjectKind(path.split("/")[2][:-1])
        body = BODIES.get(path.rpartition("/")[2]) if method == "POST" else None
        for scope in set(ApiScope) - MAY_KNOW:
            for erased, never in ids[kind]:
                for id in (erased, never):  # what is kept in memory is there from here on
                    asking(scope, method, path, id, body)
                was, sent = asking(scope, method, path, erased, body)
                assert was[0] in (403, 404) or method == "DELETE", (method, path, was)
                not_there, also_sent = asking(scope, method, path, never, body)
                if (was, sent) != (not_there, also_sent):
                    told_apart.append(
                        (scope, method, path, erased[:9], was, not_there, sent, also_sent)
                    )
    assert told_apart == []


@pytest.mark.parametrize("kind", SubjectKind)
def test_case_29_nor_where_they_are_named_inside_a_question(
    asking: Asking, kind: SubjectKind
) -> None:
    static = define(asking.annals, None, kind)
    project(asking.annals)
    for erased, never in gone(asking.annals)[kind]:
        for method, path, body in (
            ("POST", f"/api/segments/{static}/members", {"add": ["{}"]}),
            ("POST", f"/api/segments/{static}/members", {"remove": ["{}"]}),
            ("POST", f"/api/{kind}s", {"search": "{}"}),
        ):
            answers = []
            for id in (erased, never, erased, never):
                body_text = json.loads(json.dumps(body).replace("{}", id))
                answers.append(asking(ApiScope.ADMIN, method, path, id, body_text))
            assert answers[2] == answers[3], (method, path)
