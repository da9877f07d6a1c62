"""By what is counted where the workspace chooses nothing: as the first start was set."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

DEFAULTS = """
CREATE TABLE log.defaults (
    is_there boolean PRIMARY KEY DEFAULT true CHECK (is_there),
    time_zone text NOT NULL,
    mrr_property text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE log.defaults IS
    'one row: the time zone and the MRR property that hold until others are chosen';
GRANT SELECT, INSERT ON log.defaults TO annals_log;
"""


def upgrade() -> None:
    op.execute(DEFAULTS)
