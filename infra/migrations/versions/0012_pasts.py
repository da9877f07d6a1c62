"""The pasts that there are: complete read models as of an instant, in databases of their own."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

PASTS = """
CREATE TABLE views.pasts (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL UNIQUE,
    generation bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting', 'filling', 'ready', 'failed')),
    done bigint NOT NULL DEFAULT 0,
    whole bigint NOT NULL DEFAULT 0,
    bounds bigint[],
    error text,
    begun_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'ready') <= (bounds IS NOT NULL)),
    CHECK ((state = 'failed') = (error IS NOT NULL))
);
COMMENT ON COLUMN views.pasts.generation IS 'of the keys, before the first event was opened';
COMMENT ON COLUMN views.pasts.bounds IS 'the newest position shown of each partition, from 0 on';
COMMENT ON COLUMN views.pasts.seen_at IS 'when the process that made it last said that it lives';

GRANT SELECT, INSERT, UPDATE, DELETE ON views.pasts TO annals_views;
"""


def upgrade() -> None:
    op.execute(PASTS)
