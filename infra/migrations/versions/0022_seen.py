"""When somebody was seen stands in a table of its own.

A statement that changes a column of an index writes to every index of the table. To note when
somebody was last seen wrote to all five of the contacts', a third of what a stream of events cost
the server.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SEEN = """
CREATE TABLE views.seen (
    subject uuid PRIMARY KEY,
    kind text NOT NULL,
    first_seen timestamptz,
    last_seen timestamptz
);
COMMENT ON TABLE views.seen IS
    'when each contact first and last did something; a row for every contact';

INSERT INTO views.seen SELECT subject, kind, first_seen, last_seen FROM views.contacts;
CREATE INDEX seen_in_order ON views.seen
    (kind, coalesce(last_seen, '-infinity'::timestamptz), subject);

ALTER TABLE views.contacts DROP COLUMN first_seen, DROP COLUMN last_seen;
"""

# A query that does not ask when they were seen reads the contacts alone: the planner sees that
# the join adds nothing.
WHOLE_CONTACTS = """
CREATE VIEW views.whole_contacts AS
SELECT c.*, s.first_seen, s.last_seen, s.kind AS seen_kind, s.subject AS seen_subject
FROM views.contacts c LEFT JOIN views.seen s ON s.subject = c.subject;
COMMENT ON VIEW views.whole_contacts IS
    'contacts with when they were seen. Whoever wants them in that order asks for seen_kind and'
    ' sorts by last_seen and seen_subject, which an index of views.seen has in order';

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON views.seen TO annals_views;
GRANT SELECT ON views.whole_contacts TO annals_views;
"""


def upgrade() -> None:
    op.execute(SEEN)
    op.execute(WHOLE_CONTACTS)
