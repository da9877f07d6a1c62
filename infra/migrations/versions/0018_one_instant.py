"""A stream is in order within one instant too: pages of a timeline begin among any number."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

INDEX = """
CREATE INDEX events_of_stream_in_order ON log.events (stream, occurred_at, position);
DROP INDEX log.events_of_stream;
ALTER INDEX log.events_of_stream_in_order RENAME TO events_of_stream;
"""


def upgrade() -> None:
    op.execute(INDEX)
