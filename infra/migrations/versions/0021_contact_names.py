"""What a contact is called is written with its identities and properties, not generated.

PostgreSQL 18 prepares what generates a column anew for each row of a statement that changes none of
what it is generated from. To note when somebody was last seen took three times as long for it.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE views.contacts
    ALTER COLUMN name DROP EXPRESSION,
    ALTER COLUMN external_id DROP EXPRESSION,
    ALTER COLUMN email DROP EXPRESSION,
    ALTER COLUMN domain DROP EXPRESSION;
"""

FUNCTIONS = """
CREATE FUNCTION views.name_of(properties jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN coalesce(
    properties ->> 'name',
    properties ->> 'full_name',
    nullif(trim(
        coalesce(properties ->> 'first_name', properties ->> 'firstName', '') || ' ' ||
        coalesce(properties ->> 'last_name', properties ->> 'lastName', '')
    ), ''));

CREATE FUNCTION views.external_id_of(identities jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN jsonb_path_query_first(
    identities, '$[*] ? (@.scheme == "user_id" || @.scheme == "account_id").value') #>> '{}';

CREATE FUNCTION views.email_of(identities jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN coalesce(
    jsonb_path_query_array(
        identities, '$[*] ? (@.scheme == "email" && !(@.absorbed == true)).value') ->> -1,
    jsonb_path_query_array(identities, '$[*] ? (@.scheme == "email").value') ->> -1);

CREATE FUNCTION views.domain_of(identities jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN coalesce(
    jsonb_path_query_array(
        identities, '$[*] ? (@.scheme == "domain" && !(@.absorbed == true)).value') ->> -1,
    jsonb_path_query_array(identities, '$[*] ? (@.scheme == "domain").value') ->> -1);
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(FUNCTIONS)
