"""Targets of an erasure of whom nothing says what they are: they are neither erased nor unknown."""

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


def upgrade() -> None:
    op.execute(OUTCOMES)
