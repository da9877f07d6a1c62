"""The migration that brought the entries of searches makes those of the contacts of before."""

from __future__ import annotations

from pathlib import Path

import psycopg
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from domain.commands import Change
from domain.identity import Identity, Scheme, SubjectKind
from infra import migrations
from infra.bootstrap.annals import Annals
from tests.projections.read_models import NOON, account, project, user, write

ENTRIES = "SELECT t::text FROM views.search_entries t ORDER BY 1"

AS_BEFORE = """
DROP TABLE views.search_entries;
CREATE INDEX contacts_search ON views.contacts (name)"""


def test_entries_of_contacts_of_before_are_as_the_projector_makes_them(
    annals: Annals, database_url: str
) -> None:
    both = (Identity(Scheme.USER_ID, "ada"), Identity(Scheme.EMAIL, "Ada@old.example"))
    write(
        annals,
        Change(SubjectKind.USER, both, {"first_name": "Şükrü", "last_name": "x" * 5_000}, NOON),
        Change(SubjectKind.USER, (Identity(Scheme.EMAIL, "ada@new.example"), both[0]), {}, NOON),
        Change(SubjectKind.USER, user("nobody's"), {}, NOON),
        Change(
            SubjectKind.ACCOUNT, account("acme.example"), {"name": 'A "quoted", {name}\\'}, NOON
        ),
    )
    project(annals)
    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database_url)
    )
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    [script] = [each for each in scripts.walk_revisions() if "search_entries" in each.path]
    with engine.connect() as conn:
        live = conn.scalars(sa.text(ENTRIES)).all()
        assert len(live) == 3
        conn.exec_driver_sql(AS_BEFORE)
        with Operations.context(MigrationContext.configure(conn)):
            script.module.upgrade()
        assert conn.scalars(sa.text(ENTRIES)).all() == live
        conn.rollback()
    engine.dispose()
