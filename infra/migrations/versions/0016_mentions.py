"""What definitions and saved views say of somebody who is erased: what stands in its place."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# Beside the keys, in one snapshot with those that it stands in for.
REPLACEMENTS = """
CREATE TABLE keys.replacements (
    replaces uuid NOT NULL,
    request uuid NOT NULL,
    content uuid NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (replaces, request)
);
COMMENT ON TABLE keys.replacements IS
    'what stands in place of a content since an erasure request has destroyed its key';
ALTER TABLE log.saved_views ADD COLUMN content uuid;
COMMENT ON COLUMN log.saved_views.content IS
    'whose key it is sealed under; NULL: under a secret of the deployment, as all were once';
"""

MENTIONS = """
CREATE TABLE keys.erasure_mentions (
    request uuid NOT NULL,
    content uuid NOT NULL,
    event_id uuid,
    what text NOT NULL,
    id uuid NOT NULL,
    versions integer[] NOT NULL,
    places text[] NOT NULL,
    log_partition smallint,
    position bigint,
    settled_at timestamptz,
    PRIMARY KEY (request, content)
);
COMMENT ON TABLE keys.erasure_mentions IS
    'where definitions and saved views named the erased by value; never the value';
COMMENT ON COLUMN keys.erasure_mentions.position IS 'of the event that says what stands there now';
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE ON keys.replacements, keys.erasure_mentions TO annals_keys;
"""


def upgrade() -> None:
    for statements in (REPLACEMENTS, MENTIONS, GRANTS):
        op.execute(statements)
