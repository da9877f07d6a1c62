"""Refused attempts are kept for a year: who writes them deletes what is older, nothing else."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

LIFE = """
ALTER TABLE keys.refused_attempts ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON keys.refused_attempts FOR SELECT TO annals_keys USING (true);
CREATE POLICY notes ON keys.refused_attempts FOR INSERT TO annals_keys WITH CHECK (true);
CREATE POLICY counts ON keys.refused_attempts FOR UPDATE TO annals_keys USING (true);
CREATE POLICY forgets ON keys.refused_attempts FOR DELETE TO annals_keys
    USING (minute < now() - interval '1 year');

REVOKE UPDATE ON keys.refused_attempts FROM annals_keys;
GRANT UPDATE (attempts, last_at), DELETE ON keys.refused_attempts TO annals_keys;
"""


def upgrade() -> None:
    op.execute(LIFE)
