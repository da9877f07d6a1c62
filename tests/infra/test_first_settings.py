"""What the first start of a database was set to holds, until the workspace chooses otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from domain.commands import Change, Track
from domain.definitions import types
from domain.definitions.types import DefinitionId
from domain.identity import SubjectKind
from domain.workspace import editing
from infra import bootstrap
from infra.settings import Settings
from tests.projections.read_models import (
    dump,
    event,
    forget_read_models,
    project,
    user,
    write,
)

LATE = datetime(2024, 5, 13, 23, 30, tzinfo=UTC)


def test_variables_that_are_set_otherwise_later_change_nothing_and_are_told(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Settings(data=tmp_path, time_zone=ZoneInfo("Asia/Tokyo"), mrr_property="fee")
    with bootstrap.opened(first, database_url, connections=2) as annals:
        write(
            annals,
            Change(SubjectKind.USER, user("u"), {"fee": 5, "mrr": 7}, LATE),
            Track(user("u"), (), event("login"), LATE),
        )
        project(annals)
        before = dump(database_url)
    assert "defaults.kept" not in capsys.readouterr().out
    with bootstrap.opened(Settings(data=tmp_path), database_url, connections=2) as annals:
        output = capsys.readouterr().out
        assert output.count("defaults.kept") == 2
        assert all(word in output for word in ("ANNALS_TIME_ZONE", "ANNALS_MRR_PROPERTY"))
        workspace = annals.workspace_now()
        assert (str(workspace.zone), workspace.mrr_property) == ("Asia/Tokyo", "fee")
        forget_read_models(database_url)
        project(annals)
        assert dump(database_url) == before
        chosen, by = types.Settings(mrr_property="mrr"), uuid4()
        annals.definitions.decide(
            lambda state: editing.choose(state, DefinitionId(uuid4()), chosen, by), LATE
        )
        project(annals)
        assert [row for row in dump(database_url)["bar_counts"] if ",1,7)" in row]
