"""Sweeps go in the order in which rules rest on one another, which the rules themselves tell."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SWEEPS = """
ALTER TABLE views.sweeps DROP COLUMN rank;
COMMENT ON TABLE views.sweeps IS
    'rules whose decisions are taken anew for all subjects, and how far that is; those that others'
    ' rest on first';
"""


def upgrade() -> None:
    op.execute(SWEEPS)
