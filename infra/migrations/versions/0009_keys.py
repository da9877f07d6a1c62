"""Key-encryption keys by state, so that one follows another; what each subject key has sealed."""

from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None

KEYS = """
CREATE TABLE keys.key_encryption_keys (
    id text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('current', 'retiring', 'retired')),
    since timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
CREATE UNIQUE INDEX key_encryption_key_that_is_current
    ON keys.key_encryption_keys (state) WHERE state = 'current';

ALTER TABLE keys.subject_keys ADD COLUMN seals bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN keys.subject_keys.seals IS
    'how many messages were sealed under this version, by a sample';
CREATE INDEX subject_keys_destroyed
    ON keys.subject_keys (log_partition, subject) WHERE state = 'destroyed';

GRANT SELECT, INSERT, UPDATE ON keys.key_encryption_keys TO annals_keys;
GRANT UPDATE (key_encryption_key, wrapped) ON keys.secrets TO annals_keys;
"""


def upgrade() -> None:
    op.execute(KEYS)
