"""Parked events say whom they are about, and wait; skipped ones stay on record beside the log.

The four columns that there were are all that a reader has to fill in: a row of any reader but the
projector has no stream, and nothing waits behind it.
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

PARKED = """
ALTER TABLE views.parked
    ALTER COLUMN error DROP NOT NULL,
    ADD COLUMN stream uuid,
    ADD COLUMN topic text,
    ADD COLUMN state text NOT NULL DEFAULT 'failed'
        CHECK (state IN ('failed', 'waiting', 'skipped')),
    ADD COLUMN tries integer NOT NULL DEFAULT 1,
    ADD COLUMN tried_at timestamptz;
COMMENT ON TABLE views.parked IS 'events that a reader of the log lacks, by reader';
COMMENT ON COLUMN views.parked.projector IS 'the reader: main, counters, destination:<id>, ...';
COMMENT ON COLUMN views.parked.state IS
    'failed: could not be applied; waiting: behind a failed one of its stream; skipped: by a'
    ' decision that log.skipped_events has on record';
COMMENT ON COLUMN views.parked.error IS 'the kind of error, never its message; null: never tried';

CREATE INDEX parked_of_stream ON views.parked (projector, log_partition, stream);

-- What was parked before has no stream on it: nothing waits behind it, as nothing did.
CREATE TABLE log.skipped_events (
    log_partition smallint NOT NULL,
    position bigint NOT NULL,
    reader text NOT NULL,
    stream uuid NOT NULL,
    reason bytea NOT NULL,
    skipped_by text NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log_partition, position, reader)
);
COMMENT ON TABLE log.skipped_events IS
    'events that a reader goes on without, for good: who decided so, when and why. Read models are'
    ' made again without them';
COMMENT ON COLUMN log.skipped_events.reason IS 'sealed under the key of the stream''s subject';
GRANT SELECT, INSERT ON log.skipped_events TO annals_log;
"""

DISTRIBUTE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table('log.skipped_events', 'log_partition');
    END IF;
END $$
"""


def upgrade() -> None:
    for statements in (PARKED, DISTRIBUTE):
        op.execute(statements)
