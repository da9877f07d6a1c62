"""A contact shows the e-mail and the domain that are its properties now, and no earlier id.

It is registered since it was first seen, where that is earlier.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

FUNCTIONS = """
CREATE OR REPLACE FUNCTION views.external_id_of(identities jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN coalesce(
    jsonb_path_query_first(
        identities, '$[*] ? (@.goes_by == true).value') #>> '{}',
    jsonb_path_query_first(
        identities, '$[*] ? (@.scheme == "user_id" || @.scheme == "account_id").value') #>> '{}');

CREATE FUNCTION views.email_of(kind text, identities jsonb, properties jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN coalesce(
    CASE WHEN kind = 'user' AND jsonb_typeof(properties -> 'email') = 'string'
         THEN nullif(properties ->> 'email', '') END,
    views.email_of(identities));

CREATE FUNCTION views.domain_of(kind text, identities jsonb, properties jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN coalesce(
    CASE WHEN kind = 'account' AND jsonb_typeof(properties -> 'domain') = 'string'
         THEN nullif(properties ->> 'domain', '') END,
    views.domain_of(identities));
"""

PRESENT = """
UPDATE views.contacts
SET email = views.email_of(kind, identities, properties),
    domain = views.domain_of(kind, identities, properties)
WHERE properties ?| ARRAY['email', 'domain']
  AND (email IS DISTINCT FROM views.email_of(kind, identities, properties)
       OR domain IS DISTINCT FROM views.domain_of(kind, identities, properties));
"""

WHOLE_CONTACTS = """
CREATE OR REPLACE VIEW views.whole_contacts AS
SELECT {columns}, s.first_seen, s.last_seen, s.kind AS seen_kind, s.subject AS seen_subject
FROM views.contacts c
LEFT JOIN views.seen s ON s.log_partition = c.log_partition AND s.subject = c.subject
"""

COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = 'views.whole_contacts'::regclass AND attnum > 0
  AND attname NOT IN ('first_seen', 'last_seen', 'seen_kind', 'seen_subject')
ORDER BY attnum
"""


def upgrade() -> None:
    op.execute(FUNCTIONS)
    op.execute(PRESENT)
    columns = [
        "least(c.registered_at, s.first_seen) AS registered_at"
        if name == "registered_at"
        else f"c.{name}"
        for (name,) in op.get_bind().exec_driver_sql(COLUMNS)
    ]
    op.execute(WHOLE_CONTACTS.format(columns=", ".join(columns)))
