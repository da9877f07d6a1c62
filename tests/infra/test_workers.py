"""The background work goes on whatever the database does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest

from domain.commands import Change, Request
from domain.identity import Scheme, SubjectKind, identity
from infra import workers
from infra.bootstrap.annals import Annals
from tests.infra.erasures import destroy_keys


def test_an_erasure_that_was_cut_short_is_finished_once_the_database_answers_again(
    annals: Annals, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ada = identity(Scheme.USER_ID, "ada")
    annals.handler.handle([Request(Change(SubjectKind.USER, (ada,), {}, datetime.now(UTC)))])
    subject = annals.subject_lookup.find(ada)
    assert subject is not None
    destroy_keys(annals.keys, [subject])
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("REVOKE SELECT ON keys.erasures FROM annals_keys")
        with workers.working(annals, project=False):
            wait_until(lambda: "upkeep.failed" in capsys.readouterr().out)
            conn.execute("GRANT SELECT ON keys.erasures TO annals_keys")
            wait_until(lambda: not annals.erasure_records.unfinished())


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
