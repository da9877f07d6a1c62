"""Erasure as a process: requests, whom each is about, who may not come back, what must not go."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LEDGER = """
ALTER TABLE keys.erasures ADD COLUMN request uuid, ADD COLUMN position bigint;
CREATE INDEX erasures_of_request ON keys.erasures (request);
CREATE INDEX erasures_unfinished ON keys.erasures (requested_at) WHERE completed_at IS NULL;
COMMENT ON COLUMN keys.erasures.position IS
    'of the event that says so, in the partition of the subject';

-- Identities lie by their own hash: those of a subject are in any partition.
DROP INDEX keys.identities_of_subject;
CREATE INDEX identities_of_subject ON keys.identities (subject);

CREATE TABLE keys.erasure_requests (
    id uuid PRIMARY KEY,
    scope text NOT NULL CHECK (scope IN ('one', 'list', 'segment')),
    kind text NOT NULL,
    segment uuid,
    reason text NOT NULL,
    suppress boolean NOT NULL,
    unknown integer NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    unreadable_at timestamptz,
    recorded_at timestamptz,
    forgotten_at timestamptz,
    cleaned_at timestamptz,
    completed_at timestamptz,
    waits_for text,
    rewritten text[] NOT NULL DEFAULT '{}',
    wal text,
    certificate bytea
);
CREATE INDEX erasure_requests_by_age ON keys.erasure_requests (requested_at, id);
CREATE INDEX erasure_requests_unfinished ON keys.erasure_requests (requested_at)
    WHERE completed_at IS NULL;
COMMENT ON COLUMN keys.erasure_requests.unknown IS 'ids of the list that were nobody''s';

CREATE TABLE keys.erasure_tokens (
    token bytea PRIMARY KEY,
    question bytea NOT NULL,
    request uuid NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE keys.erasure_tokens IS
    'idempotency keys and what was asked under them, as keyed hashes that expire';

CREATE TABLE keys.erasure_targets (
    log_partition smallint NOT NULL,
    request uuid NOT NULL,
    subject uuid NOT NULL,
    outcome text NOT NULL DEFAULT 'waiting'
        CHECK (outcome IN ('waiting', 'erased', 'erased_before', 'held', 'unknown')),
    detail text,
    PRIMARY KEY (log_partition, request, subject)
);
CREATE INDEX erasure_targets_of_request ON keys.erasure_targets (request, outcome, subject);
"""

SUPPRESSION = """
CREATE TABLE keys.suppressed (
    log_partition smallint NOT NULL,
    lookup bytea NOT NULL,
    request uuid NOT NULL,
    suppressed_at timestamptz NOT NULL DEFAULT now(),
    lifted_at timestamptz,
    lifted_by text,
    PRIMARY KEY (log_partition, lookup)
);
"""

HOLDS = """
CREATE TABLE keys.holds (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    placed_by text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now(),
    release_reason text,
    released_by text,
    released_at timestamptz,
    PRIMARY KEY (log_partition, subject, id)
);
CREATE INDEX holds_by_id ON keys.holds (id);
"""

PLACE = """
CREATE TABLE keys.place (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    place text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE keys.place IS
    'the server and the database in which this was last opened: one that differs was restored';
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE ON keys.erasure_requests, keys.erasure_targets, keys.suppressed,
    keys.holds TO annals_keys;
GRANT SELECT, INSERT, DELETE ON keys.erasure_tokens TO annals_keys;
GRANT SELECT, INSERT, UPDATE ON keys.place TO annals_keys;
"""

DISTRIBUTE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table(name, 'log_partition') FROM unnest(ARRAY[
            'keys.erasure_targets', 'keys.suppressed', 'keys.holds']) AS name;
    END IF;
END $$
"""


def upgrade() -> None:
    for statements in (LEDGER, SUPPRESSION, HOLDS, PLACE, GRANTS, DISTRIBUTE):
        op.execute(statements)
