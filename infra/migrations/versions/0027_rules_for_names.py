"""Names of the catalogue can be retired, and properties get another type."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

CATALOGUE = """
ALTER TABLE views.catalogue ADD COLUMN retired_at timestamptz, ADD COLUMN retired_by uuid;
COMMENT ON COLUMN views.catalogue.retired_by IS 'the API key that retired it';
"""

CONTACTS = """
ALTER TABLE views.contacts ADD COLUMN sent jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN views.contacts.sent IS
    'as they were sent, the values of properties that an admin gave another type';
"""


def upgrade() -> None:
    for statements in (CATALOGUE, CONTACTS):
        op.execute(statements)
