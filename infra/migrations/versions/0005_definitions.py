"""Definitions of all families, and every version that they had."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DEFINITIONS = """
CREATE TABLE views.definitions (
    id uuid PRIMARY KEY,
    family text NOT NULL,
    kind text,
    name text,
    definition jsonb NOT NULL,
    version integer NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    created_by uuid NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by uuid NOT NULL
);
COMMENT ON COLUMN views.definitions.status IS
    'draft, active, archived or deleted; only what is active decides';
COMMENT ON COLUMN views.definitions.kind IS 'null, as the name: the settings of the workspace';

CREATE TABLE views.definition_versions (
    id uuid NOT NULL,
    version integer NOT NULL,
    definition jsonb NOT NULL,
    status text NOT NULL,
    at timestamptz NOT NULL,
    by uuid NOT NULL,
    PRIMARY KEY (id, version)
);

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA views TO annals_views;
"""


def upgrade() -> None:
    op.execute(DEFINITIONS)
