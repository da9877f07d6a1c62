"""Segments: their definitions, their members, and the decider's work."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SEGMENTS = """
CREATE TABLE views.segments (
    segment uuid PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    condition jsonb,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    created_by uuid NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by uuid NOT NULL,
    deleted_at timestamptz
);
COMMENT ON COLUMN views.segments.condition IS 'null: a static segment';

CREATE TABLE views.segment_lists (
    log_partition smallint NOT NULL,
    segment uuid NOT NULL,
    subject uuid NOT NULL,
    PRIMARY KEY (log_partition, segment, subject)
);
COMMENT ON TABLE views.segment_lists IS
    'what a static segment lists, by the ids that were valid then; who is a member is decided';

CREATE TABLE views.segment_members (
    log_partition smallint NOT NULL,
    segment uuid NOT NULL,
    subject uuid NOT NULL,
    ordinal integer NOT NULL,
    entered_at timestamptz NOT NULL,
    PRIMARY KEY (log_partition, subject, segment)
);
CREATE INDEX segment_members_of_segment ON views.segment_members (segment, subject);

CREATE TABLE views.segment_leavers (
    log_partition smallint NOT NULL,
    segment uuid NOT NULL,
    subject uuid NOT NULL,
    ordinal integer NOT NULL,
    left_at timestamptz NOT NULL,
    PRIMARY KEY (log_partition, subject, segment)
);

CREATE TABLE views.segment_counts (
    log_partition smallint NOT NULL,
    segment uuid NOT NULL,
    members bigint NOT NULL,
    PRIMARY KEY (log_partition, segment)
) WITH (fillfactor = 50);
CREATE INDEX segment_counts_of_segment ON views.segment_counts (segment) INCLUDE (members);
"""

DECIDING = """
CREATE TABLE views.changes_due (
    id uuid PRIMARY KEY,
    changes bytea NOT NULL
);
COMMENT ON TABLE views.changes_due IS
    'what batches of the projector changed and no decider has looked at yet';

CREATE TABLE views.deciding (
    decider text PRIMARY KEY,
    waits_for bigint[],
    swept_day date NOT NULL
);
COMMENT ON COLUMN views.deciding.waits_for IS
    'the position in each partition that the read models have to reach before anything is decided'
    ' from them; null once they have';

CREATE TABLE views.segment_sweeps (
    segment uuid PRIMARY KEY,
    cause bytea NOT NULL,
    next_partition smallint NOT NULL,
    waits_for bigint[]
);
COMMENT ON TABLE views.segment_sweeps IS
    'segments that are decided anew for all subjects, and how far that is';

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA views TO annals_views;
"""

DISTRIBUTE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table(name, 'log_partition') FROM unnest(ARRAY[
            'views.segment_lists', 'views.segment_members', 'views.segment_leavers',
            'views.segment_counts']) AS name;
    END IF;
END $$
"""


def upgrade() -> None:
    for statements in (SEGMENTS, DECIDING, DISTRIBUTE):
        op.execute(statements)
