"""What a search looks at of each contact, folded, in a table of its own.

The texts as they were sent could be searched in any case, and no further: neither without accents
nor with another kind of space, and nothing told the best answer from any other.
"""

from collections.abc import Iterator
from itertools import islice

import psycopg
from alembic import op

from domain.search.entry import entry

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

# "C" compares bytes: an index on the text itself finds what begins with another. The entries of an
# index stay below 2,704 bytes, as no text has more than 256 characters.
TABLE = """
CREATE TABLE views.search_entries (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    kind text NOT NULL,
    name text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    external_id text COLLATE "C" NOT NULL,
    others text COLLATE "C" NOT NULL,
    keys integer[] NOT NULL,
    PRIMARY KEY (log_partition, subject)
) WITH (fillfactor = 90);
COMMENT ON TABLE views.search_entries IS
    'what a search looks at of each contact; all texts are folded (domain/search/folding.py)';
COMMENT ON COLUMN views.search_entries.address IS 'of a user the e-mail, of an account the domain';
COMMENT ON COLUMN views.search_entries.others IS
    'the other identities, with spaces between them, and a name that is too long for its column';
COMMENT ON COLUMN views.search_entries.keys IS
    'of the words, whole and without each of their letters (domain/search/entry.py)';
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON views.search_entries TO annals_views;

-- For how many begin with a text the planner needs more than its hundred samples.
ALTER TABLE views.search_entries
    ALTER COLUMN name SET STATISTICS 500,
    ALTER COLUMN address SET STATISTICS 500,
    ALTER COLUMN external_id SET STATISTICS 500;
"""

INDEXES = """
CREATE INDEX search_entries_by_name ON views.search_entries (kind, name, subject);
CREATE INDEX search_entries_by_address ON views.search_entries (kind, address, subject);
CREATE INDEX search_entries_by_external_id ON views.search_entries (kind, external_id, subject);
CREATE INDEX search_entries_by_text ON views.search_entries USING gin (
    (' ' || name || ' ' || address || ' ' || external_id || ' ' || others) gin_trgm_ops);
CREATE INDEX search_entries_by_keys ON views.search_entries USING gin (keys);
DROP INDEX views.contacts_search;
"""

DISTRIBUTE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table('views.search_entries', 'log_partition');
    END IF;
END $$
"""

SELECT_CONTACTS = """
SELECT log_partition, subject, kind, name, coalesce(email, domain), external_id,
       jsonb_path_query_array(identities, '$[*].value')
FROM views.contacts"""

FILL = """
INSERT INTO views.search_entries
SELECT p, s, k, n, a, e, o, w::integer[]
FROM unnest(%s::smallint[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
            %s::text[]) AS v(p, s, k, n, a, e, o, w)"""

PIECE = 5_000
"""Contacts of one statement."""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(DISTRIBUTE)
    conn = op.get_bind().connection.driver_connection
    assert isinstance(conn, psycopg.Connection)
    with conn.cursor("contacts") as contacts, conn.cursor() as cursor:
        contacts.itersize = PIECE
        contacts.execute(SELECT_CONTACTS)
        rows = _rows(contacts)
        while piece := list(islice(rows, PIECE)):
            cursor.execute(FILL, [list(column) for column in zip(*piece, strict=True)])
    op.execute(INDEXES)


def _rows(contacts: psycopg.ServerCursor) -> Iterator[tuple[object, ...]]:
    for partition, subject, kind, name, address, external_id, identities in contacts:
        *texts, keys = entry(name, address, external_id, identities)
        yield partition, subject, kind, *texts, f"{{{','.join(map(str, keys))}}}"
