"""Counters have an end: each says who asked, when it was last used, and whether it is needed.

A counter is kept by the projector from the moment at which it is begun; the filler counts the part
of the log before that moment (`upto`), in any order, and several counters with one reading.
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

# Counters of before have no owner yet: the first look at the definitions tells who needs them, and
# the others go at once. Those that were being counted are begun anew when somebody asks again.
COUNTERS = """
ALTER TABLE views.counters
    DROP CONSTRAINT counters_state_check,
    ALTER COLUMN state DROP DEFAULT,
    ADD COLUMN kept boolean NOT NULL DEFAULT false,
    ADD COLUMN asked_by uuid,
    ADD COLUMN asked_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN last_used timestamptz NOT NULL DEFAULT 'epoch';

UPDATE views.counters SET state = 'removing', activity = '', name = '', tests = ''
WHERE state = 'building';

ALTER TABLE views.counters
    ALTER COLUMN state SET DEFAULT 'waiting',
    ALTER COLUMN kept DROP DEFAULT,
    ALTER COLUMN asked_at DROP DEFAULT,
    ALTER COLUMN last_used DROP DEFAULT,
    ADD CONSTRAINT counters_state_check
        CHECK (state IN ('waiting', 'filling', 'ready', 'removing'));

COMMENT ON COLUMN views.counters.kept IS
    'a definition or a saved view needs it; derived from these, and brought in line with them';
COMMENT ON COLUMN views.counters.asked_by IS
    'API key of the question that it was made for; null: a definition';

DELETE FROM views.counter_fills;
ALTER TABLE views.counter_fills ADD COLUMN upto bigint NOT NULL;
COMMENT ON COLUMN views.counter_fills.upto IS
    'where the projector stood when it began to keep the counter: the filler counts up to there';
"""


def upgrade() -> None:
    op.execute(COUNTERS)
