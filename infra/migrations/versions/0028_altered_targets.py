"""Erasures over rows that do not open: targets of whom nothing says what they are, and names to
look for again once what definitions say opens."""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

OUTCOMES = """
ALTER TABLE keys.erasure_targets
    DROP CONSTRAINT erasure_targets_outcome_check,
    ADD CONSTRAINT erasure_targets_outcome_check CHECK (
        outcome IN ('waiting', 'erased', 'erased_before', 'held', 'unknown', 'altered'));
"""

NAMES = """
CREATE TABLE keys.erasure_names (
    request uuid NOT NULL,
    lookup bytea NOT NULL,
    PRIMARY KEY (request, lookup)
);
COMMENT ON TABLE keys.erasure_names IS
    'names of the erased, as keyed hashes, until all that definitions say can be searched for them';
GRANT SELECT, INSERT, DELETE ON keys.erasure_names TO annals_keys;
"""


def upgrade() -> None:
    op.execute(OUTCOMES)
    op.execute(NAMES)
