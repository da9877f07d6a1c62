"""Keys of periods, runs that destroy them, and from where a projector takes what they left."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEYS = """
CREATE TABLE keys.period_keys (
    period date PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('active', 'destroyed')),
    key_encryption_key text NOT NULL,
    wrapped bytea,
    fingerprint bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    CHECK ((state = 'active') = (wrapped IS NOT NULL)),
    CHECK ((state = 'destroyed') = (destroyed_at IS NOT NULL))
);
COMMENT ON TABLE keys.period_keys IS
    'a secret for each calendar month of tracked activity, by its first day';

CREATE TABLE keys.retention_runs (
    id uuid PRIMARY KEY,
    ends timestamptz NOT NULL UNIQUE,
    counts text NOT NULL CHECK (counts IN ('keep', 'drop')),
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    lines bigint[] NOT NULL,
    partitions integer NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    unsealed bigint NOT NULL DEFAULT 0,
    sums bigint NOT NULL DEFAULT 0,
    destroyed_at timestamptz,
    completed_at timestamptz,
    waits_for text
);
CREATE UNIQUE INDEX retention_run_under_way
    ON keys.retention_runs ((completed_at IS NULL)) WHERE completed_at IS NULL;
COMMENT ON COLUMN keys.retention_runs.lines IS
    'the heads of the 256 partitions when it began';

GRANT SELECT, INSERT, UPDATE ON keys.period_keys, keys.retention_runs TO annals_keys;
"""

VIEWS = """
ALTER TABLE views.checkpoints ADD COLUMN summed_before timestamptz;
COMMENT ON COLUMN views.checkpoints.summed_before IS
    'of activity before this the sums are counted: it was gone when the partition was begun';
"""


def upgrade() -> None:
    for statements in (KEYS, VIEWS):
        op.execute(statements)
