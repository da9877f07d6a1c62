"""Who made an API key, what for, and when it was last seen; attempts that no key opened."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

API_KEYS = """
ALTER TABLE keys.api_keys
    ADD COLUMN name text,
    ADD COLUMN made_by uuid,
    ADD COLUMN last_seen timestamptz,
    ADD COLUMN revoked_by uuid;
"""

# One row a minute for each key and route: however often somebody tries, it stays small.
REFUSED_ATTEMPTS = """
CREATE TABLE keys.refused_attempts (
    minute timestamptz NOT NULL,
    key_id uuid NOT NULL,
    method text NOT NULL,
    route text NOT NULL,
    scope text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    attempts bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (minute, key_id, method, route)
);
COMMENT ON COLUMN keys.refused_attempts.route IS 'as it is declared, with no id of anybody';
GRANT SELECT, INSERT, UPDATE ON keys.refused_attempts TO annals_keys;
"""


def upgrade() -> None:
    op.execute(API_KEYS)
    op.execute(REFUSED_ATTEMPTS)


def downgrade() -> None:
    op.execute("DROP TABLE keys.refused_attempts")
    op.execute(
        "ALTER TABLE keys.api_keys DROP COLUMN name, DROP COLUMN made_by, DROP COLUMN last_seen,"
        " DROP COLUMN revoked_by"
    )
