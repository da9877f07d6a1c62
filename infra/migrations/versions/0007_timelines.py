"""Timelines by type: what is not a tracked event is found by its topic, however rare it is."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Tracked events are most of a log, and are left out: to append them costs what it did.
INDEXES = """
CREATE INDEX events_of_stream_by_topic ON log.events (stream, topic, occurred_at)
    WHERE topic NOT IN ('user.event_tracked', 'account.event_tracked');
CREATE INDEX events_of_account_by_topic ON log.events (account, topic, occurred_at)
    WHERE account IS NOT NULL AND topic NOT IN ('user.event_tracked', 'account.event_tracked');
"""


def upgrade() -> None:
    op.execute(INDEXES)
