"""Every index is over values of a bounded size, in any script.

An entry of a B-tree holds at most 2,704 bytes. A name of 8,000 characters, or the address of a page
of 1,900 Chinese ones, stopped every read model.
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

# Contacts are sorted by the first 256 characters of a name, at most 1,024 bytes.
CONTACTS = """
DROP INDEX views.contacts_by_name;
CREATE INDEX contacts_by_name ON views.contacts (kind, coalesce("left"(name, 256), ''), subject);
"""

# A digest finds the name of a page; each query compares the name itself too. convert_to depends on
# the encoding of the database, which nobody can change.
NAMES = """
CREATE FUNCTION views.digest_of(name text) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN sha256(convert_to(name, 'UTF8'));

CREATE FUNCTION views.digests_of(names text[]) RETURNS bytea[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN ARRAY(SELECT views.digest_of(name) FROM unnest(names) AS w(name));

ALTER TABLE views.names
    DROP CONSTRAINT names_pkey,
    DROP CONSTRAINT names_id_key,
    ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX names_by_digest ON views.names (kind, views.digest_of(name));
COMMENT ON TABLE views.names IS
    'numbers of what was done, by name; a name is looked up by its kind, its digest and itself';
"""


def upgrade() -> None:
    for statements in (CONTACTS, NAMES):
        op.execute(statements)
