"""Names of the catalogue can be retired."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

CATALOGUE = """
ALTER TABLE views.catalogue ADD COLUMN retired_at timestamptz, ADD COLUMN retired_by uuid;
COMMENT ON COLUMN views.catalogue.retired_by IS 'the API key that retired it';
"""


def upgrade() -> None:
    op.execute(CATALOGUE)
