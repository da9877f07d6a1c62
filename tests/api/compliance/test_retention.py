"""Retention as it is chosen over HTTP, met by senders, and carried out by command."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from domain.definitions.retention import OPERATOR, Counts, kept_since
from infra.bootstrap.annals import Annals
from tests.serving import Clients, problem

OLD = datetime.now(UTC) - timedelta(days=100)


def retention(annals: Annals, url: str, *options: str) -> Result:
    environment = {"ANNALS_DATABASE_URL": url, "ANNALS_DATA": str(annals.settings.data)}
    return CliRunner().invoke(main, ["retention", *options], env=environment)


def choose(client: Clients, **chosen: object) -> None:
    client.taken(client("admin").put("/api/settings", json={"retention": chosen}))


def track(at: datetime, message: str) -> dict[str, object]:
    return {
        "type": "track",
        "userId": "ada",
        "event": "login",
        "messageId": message,
        "timestamp": at.isoformat(),
    }


@pytest.mark.parametrize("months", [0, 1_201])
def test_months_are_within_reason(client: Clients, months: int) -> None:
    answer = client("admin").put("/api/settings", json={"retention": {"months": months}})
    assert problem(answer, 400)["place"] == "/retention/months"


def test_what_is_chosen_is_carried_out_by_command_and_late_events_are_refused(
    client: Clients, annals: Annals, database_url: str
) -> None:
    client.send(track(OLD, "1"), track(datetime.now(UTC), "2"))
    client.see("/api/users")
    assert "for ever" in retention(annals, database_url).output
    choose(client, months=2)
    assert client("read").get("/api/settings").json()["retention"] == {
        "months": 2,
        "counts": "keep",
    }
    output = retention(annals, database_url, "--dry-run")
    assert output.exit_code == 0
    assert "1 events from before" in output.output
    assert annals.retention.runs() == []
    client.see("/api/users")
    done = retention(annals, database_url)
    while "transactions on the server" in done.output:  # of tests that run meanwhile
        assert done.exit_code == 1
        done = retention(annals, database_url)
    assert done.exit_code == 0, done.output
    assert "counts: keep" in done.output
    assert "by operator, done" in done.output
    assert "Nothing is left" in retention(annals, database_url).output
    answer = client("write").post("/v1/batch", json={"batch": [track(OLD, "3")]})
    assert "no-longer-kept" in answer.text
    assert "/timestamp" in answer.text


def test_officers_and_auditors_read_which_runs_there_were_and_what_one_waits_for(
    client: Clients, annals: Annals, database_url: str
) -> None:
    client.send(track(OLD, "1"))
    choose(client, months=2, counts="drop")
    client.see("/api/users")
    assert client("audit").get("/api/retention/runs").json()["items"] == []
    annals.retention.begin(kept_since(datetime.now(UTC), 2), Counts.DROP, by=OPERATOR)
    hold = {"kind": "user", "id": "external:ada", "reason": "claim-7"}
    client.taken(client("comply").post("/api/holds", json=hold))
    annals.retention.go_on()
    for scope in ("audit", "comply", "admin"):
        answer = client(scope).get("/api/retention/runs")
        assert answer.status_code == 200
        [run] = answer.json()["items"]
        assert (run["counts"], run["requested_by"]) == ("drop", "operator")
        assert (run["partitions"], run["events"], run["completed_at"]) == (256, 1, None)
        assert run["waits_for"] == "the release of a legal hold, for claim-7"
        assert "ada" not in answer.text
    problem(client("read").get("/api/retention/runs"), 403, "wrong-scope")
