"""When somebody was seen stands in a table of its own.

A statement that changes a column of an index writes to every index of the table. To note when
somebody was last seen wrote to all five of the contacts', a fifth of what a stream of events cost
the server.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SEEN = """
CREATE TABLE views.seen (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    kind text NOT NULL,
    first_seen timestamptz,
    last_seen timestamptz,
    is_known boolean NOT NULL DEFAULT false,
    PRIMARY KEY (log_partition, subject)
);
COMMENT ON TABLE views.seen IS
    'when each contact first and last did something; a row for every contact';
COMMENT ON COLUMN views.seen.is_known IS
    'false in the statement that adds the row, which tells by it what it has added';

INSERT INTO views.seen
SELECT log_partition, subject, kind, first_seen, last_seen, true FROM views.contacts;

CREATE INDEX seen_in_order ON views.seen
    (kind, coalesce(last_seen, '-infinity'::timestamptz), subject);

ALTER TABLE views.contacts DROP COLUMN first_seen, DROP COLUMN last_seen;
"""

DISTRIBUTE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table('views.seen', 'log_partition');
    END IF;
END $$
"""

# From the key the planner knows that each row has its contact. Without it, it takes the partition
# and the subject for two things, and a list of all for one of a few.
KEY = """
ALTER TABLE views.seen ADD CONSTRAINT seen_of_contact
    FOREIGN KEY (log_partition, subject) REFERENCES views.contacts (log_partition, subject)
    DEFERRABLE INITIALLY DEFERRED;
"""

# A query that does not ask when they were seen reads the contacts alone: the planner sees that
# the join adds nothing.
WHOLE_CONTACTS = """
CREATE VIEW views.whole_contacts AS
SELECT c.*, s.first_seen, s.last_seen, s.kind AS seen_kind, s.subject AS seen_subject
FROM views.contacts c
LEFT JOIN views.seen s ON s.log_partition = c.log_partition AND s.subject = c.subject;
COMMENT ON VIEW views.whole_contacts IS
    'contacts with when they were seen. Whoever wants them in that order asks for seen_kind and'
    ' sorts by last_seen and seen_subject, which an index of views.seen has in order';

-- With the partition, by which the view joins: else bars would have to read the table.
DROP INDEX views.contacts_of_subject;
CREATE INDEX contacts_of_subject ON views.contacts (subject)
    INCLUDE (log_partition, kind, stage, health, currency, mrr);

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON views.seen TO annals_views;
GRANT SELECT ON views.whole_contacts TO annals_views;
"""


def upgrade() -> None:
    for statements in (SEEN, DISTRIBUTE, KEY, WHOLE_CONTACTS):
        op.execute(statements)
