"""What is decided: stages, health, scores and signals; and sweeps of any rule."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

DECIDED = """
CREATE TABLE views.standings (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    stage_ordinal integer NOT NULL DEFAULT 0,
    stage_since timestamptz,
    health_ordinal integer NOT NULL DEFAULT 0,
    health_since timestamptz,
    is_by_hand boolean NOT NULL DEFAULT false,
    hand_stage text,
    hand_reason text,
    hand_by uuid,
    hand_at timestamptz,
    PRIMARY KEY (log_partition, subject)
);
COMMENT ON COLUMN views.standings.is_by_hand IS
    'somebody put it into hand_stage (null: into none), and no rule moves it until released';

CREATE TABLE views.stage_spells (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    ordinal integer NOT NULL,
    stage text NOT NULL,
    definition uuid NOT NULL,
    version integer NOT NULL,
    by_hand boolean NOT NULL,
    entered_at timestamptz NOT NULL,
    left_at timestamptz,
    PRIMARY KEY (log_partition, subject, ordinal)
);

CREATE TABLE views.scores (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    score uuid NOT NULL,
    ordinal integer NOT NULL,
    value numeric(5, 2),
    held text[] NOT NULL,
    since jsonb NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (log_partition, subject, score)
);
CREATE INDEX scores_of_score ON views.scores (score, subject) INCLUDE (value);
COMMENT ON COLUMN views.scores.value IS '0 to 100; null: there is no such score any more';
COMMENT ON COLUMN views.scores.since IS
    'by name of rule: since when it holds, or does not; a rule that is not there was added later';

CREATE TABLE views.signals (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    signal uuid NOT NULL,
    ordinal integer NOT NULL,
    is_on boolean NOT NULL,
    triggered_at timestamptz,
    ended_at timestamptz,
    triggers integer NOT NULL,
    goal text,
    goal_due_at timestamptz,
    PRIMARY KEY (log_partition, subject, signal)
);
CREATE INDEX signals_of_signal ON views.signals (signal, subject) WHERE is_on;
COMMENT ON COLUMN views.signals.goal IS
    'of the last trigger: waiting, reached or missed; null: it has none';

CREATE TABLE views.timers (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    rule text NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (log_partition, subject, rule)
);
CREATE INDEX timers_due ON views.timers (due_at);
COMMENT ON TABLE views.timers IS
    'when a rule has to look at a subject again though nothing happens';
"""

DECIDING = """
DROP TABLE views.segment_sweeps;

CREATE TABLE views.sweeps (
    rule text PRIMARY KEY,
    rank smallint NOT NULL,
    cause bytea NOT NULL,
    next_partition smallint NOT NULL,
    waits_for bigint[]
);
COMMENT ON TABLE views.sweeps IS
    'rules whose decisions are taken anew for all subjects, and how far that is; those of a lower'
    ' rank first, as others rest on them';

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA views TO annals_views;
"""

DISTRIBUTE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table(name, 'log_partition') FROM unnest(ARRAY[
            'views.standings', 'views.stage_spells', 'views.scores', 'views.signals',
            'views.timers']) AS name;
    END IF;
END $$
"""


def upgrade() -> None:
    for statements in (DECIDED, DECIDING, DISTRIBUTE):
        op.execute(statements)
