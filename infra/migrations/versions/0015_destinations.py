"""How far each destination was told, who tells it, and what its messages are signed with."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# Beside the log, and backed up with it in one snapshot: after a restore no cursor is ahead of it.
DESTINATIONS = """
CREATE TABLE log.destinations (
    id uuid PRIMARY KEY,
    salt bytea NOT NULL,
    earlier_salt bytea,
    renewed_at timestamptz,
    begun_at timestamptz,
    worker uuid,
    fencing_token bigint NOT NULL DEFAULT 0,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    sent_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    failed_at timestamptz,
    failure text,
    retry_at timestamptz NOT NULL DEFAULT '-infinity',
    paused_at timestamptz,
    paused_by uuid
);
COMMENT ON COLUMN log.destinations.salt IS
    'with a secret of the deployment it makes the one that messages are signed with';
COMMENT ON COLUMN log.destinations.paused_by IS
    'the API key; null where the destination answered that it is gone';

CREATE TABLE log.destination_cursors (
    log_partition smallint NOT NULL,
    destination uuid NOT NULL,
    first bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (log_partition, destination)
);
CREATE INDEX destination_cursors_of_destination ON log.destination_cursors (destination);
COMMENT ON COLUMN log.destination_cursors.first IS
    'where it was when the destination was activated: what is before that it is never told';

GRANT SELECT, INSERT, UPDATE ON log.destinations, log.destination_cursors TO annals_log;
"""

DISTRIBUTE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table('log.destination_cursors', 'log_partition');
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute(DESTINATIONS)
    op.execute(DISTRIBUTE)
