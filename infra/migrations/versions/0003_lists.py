"""What lists, bars and quick filters stand on: columns to sort and sum by, and kept counts."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CONTACTS = """
ALTER TABLE views.contacts
    ADD COLUMN stage text,
    ADD COLUMN health text NOT NULL DEFAULT 'normal'
        CHECK (health IN ('good', 'normal', 'bad')),
    ADD COLUMN mrr numeric,
    ADD COLUMN currency text;
COMMENT ON COLUMN views.contacts.mrr IS
    'the property that the settings name, exact as it was written; null where it is no amount';

-- Bars over a segment find its members here, and need not fetch them.
DROP INDEX views.contacts_of_subject;
CREATE INDEX contacts_of_subject ON views.contacts (subject)
    INCLUDE (kind, stage, health, currency, mrr);
"""

BARS = """
CREATE TABLE views.bar_counts (
    log_partition smallint NOT NULL,
    kind text NOT NULL,
    stage text NOT NULL,
    health text NOT NULL,
    currency text NOT NULL,
    count bigint NOT NULL,
    with_mrr bigint NOT NULL,
    mrr numeric NOT NULL,
    PRIMARY KEY (log_partition, kind, stage, health, currency)
) WITH (fillfactor = 50);
COMMENT ON TABLE views.bar_counts IS
    'contacts counted by what bars show; an empty stage or currency stands for none';
"""

FILTERS = """
CREATE TABLE views.filter_values (
    kind text NOT NULL,
    property text NOT NULL,
    value text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (kind, property, value)
);
COMMENT ON TABLE views.filter_values IS
    'the most frequent values of properties, never one that fewer than three contacts have';

CREATE TABLE views.filter_ranges (
    kind text NOT NULL,
    property text NOT NULL,
    low text NOT NULL,
    high text NOT NULL,
    PRIMARY KEY (kind, property)
);

CREATE TABLE views.filter_states (
    kind text PRIMARY KEY,
    positions bigint NOT NULL,
    erasures bigint NOT NULL,
    as_of timestamptz NOT NULL,
    seconds double precision NOT NULL
);
"""

SAVED_VIEWS = """
CREATE TABLE log.saved_views (
    id uuid PRIMARY KEY,
    sealed bytea NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON log.saved_views TO annals_log;
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE
    ON views.bar_counts, views.filter_values, views.filter_ranges, views.filter_states
    TO annals_views;
"""

DISTRIBUTE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table('views.bar_counts', 'log_partition');
    END IF;
END $$
"""


def upgrade() -> None:
    for statements in (CONTACTS, BARS, FILTERS, SAVED_VIEWS, GRANTS, DISTRIBUTE):
        op.execute(statements)
