"""Timelines by type begin among any number of events of one instant, as those of all types do.

Their indexes have the places of events too. Without them the server at times read a whole stream in
search of a few topics, for the sake of its order.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

INDEXES = """
DROP INDEX log.events_of_stream_by_topic;
CREATE INDEX events_of_stream_by_topic ON log.events (stream, topic, occurred_at, position)
    WHERE topic NOT IN ('user.event_tracked', 'account.event_tracked');
DROP INDEX log.events_of_account_by_topic;
CREATE INDEX events_of_account_by_topic
    ON log.events (account, topic, occurred_at, log_partition, position)
    WHERE account IS NOT NULL AND topic NOT IN ('user.event_tracked', 'account.event_tracked');
"""


def upgrade() -> None:
    op.execute(INDEXES)
