"""A past belongs to the API keys that asked for it: no other ends it."""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

ASKED_BY = """
ALTER TABLE views.pasts ADD COLUMN asked_by uuid[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN views.pasts.asked_by IS
    'the API keys that asked for it and did not give it up; the last to give it up drops it';
"""


def upgrade() -> None:
    op.execute(ASKED_BY)
