"""A date without a time is a calendar day: `2026-05-13` in place of midnight UTC.

Rows are converted as `domain.events.schema` reads the events that they are from: midnight UTC of a
property of type date is a day.
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

# The days that `views.instant_of` knows, without a time. A list of dates is in the order of
# instants, in the form of `views.instant_of`: a day stands at its beginning in a time zone. The
# outermost days have that form in every zone, as they are in none.
FUNCTIONS = r"""
CREATE FUNCTION views.day_of(properties jsonb, name text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(properties -> name) = 'string' AND properties ->> name ~ (
            '^(?!0000)([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])'
            '|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))'
            '|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)$')
        THEN properties ->> name END;

CREATE FUNCTION views.date_in_order(properties jsonb, name text, zone text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE length(properties ->> name) WHEN 10 THEN
        CASE WHEN views.day_of(properties, name) IS NULL THEN NULL
            WHEN (properties ->> name) COLLATE "C" BETWEEN '0002' AND '9998-12-31'
            THEN to_char((properties ->> name)::timestamp AT TIME ZONE zone AT TIME ZONE 'UTC',
                         'YYYY-MM-DD"T"HH24:MI:SS')
            ELSE (properties ->> name) || 'T00:00:00' END
        ELSE views.instant_of(properties, name) END;
"""

# Midnight UTC of the properties that are dates, as days.
CONTACTS = """
UPDATE views.contacts c SET properties = c.properties || w.days, sent = c.sent || w.sent
FROM (SELECT o.log_partition, o.subject,
             jsonb_object_agg(t.name, left(o.properties ->> t.name, 10))
                 FILTER (WHERE views.instant_of(o.properties, t.name) LIKE '%T00:00:00') AS days,
             jsonb_object_agg(t.name, left(o.sent ->> t.name, 10))
                 FILTER (WHERE views.instant_of(o.sent, t.name) LIKE '%T00:00:00') AS sent
      FROM views.contacts o
      JOIN views.catalogue t ON t.scope = o.kind || '.property' AND t.value_type = 'date'
       AND (views.instant_of(o.properties, t.name) LIKE '%T00:00:00'
            OR views.instant_of(o.sent, t.name) LIKE '%T00:00:00')
      GROUP BY o.log_partition, o.subject) v
CROSS JOIN LATERAL (
    SELECT coalesce(v.days, '{}') AS days, coalesce(v.sent, '{}') AS sent) w
WHERE c.log_partition = v.log_partition AND c.subject = v.subject;
"""

MEMBERSHIPS = """
UPDATE views.memberships m SET properties = m.properties || w.days
FROM (SELECT o.log_partition, o.user_id, o.account_id,
             jsonb_object_agg(t.name, left(o.properties ->> t.name, 10)) AS days
      FROM views.memberships o
      JOIN views.catalogue t ON t.scope = 'membership.property' AND t.value_type = 'date'
       AND views.instant_of(o.properties, t.name) LIKE '%T00:00:00'
      GROUP BY o.log_partition, o.user_id, o.account_id) w
WHERE m.log_partition = w.log_partition AND m.user_id = w.user_id
  AND m.account_id = w.account_id;
"""

# Quick filters are counted anew, and so are the counters that compare dates. Rules decide anew
# about all subjects, as after a rebuild.
ANEW = """
DELETE FROM views.filter_ranges;
UPDATE views.filter_states SET positions = 0, seconds = 0;
UPDATE views.counters SET state = 'waiting'
WHERE state IN ('filling', 'ready') AND tests ~ '"op":"(before|after)"';
DELETE FROM views.counter_fills WHERE counter IN (
    SELECT id FROM views.counters WHERE state = 'waiting');
DELETE FROM views.counter_days WHERE counter IN (
    SELECT id FROM views.counters WHERE state = 'waiting');
DELETE FROM views.deciding;
"""


def upgrade() -> None:
    for statements in (FUNCTIONS, CONTACTS, MEMBERSHIPS, ANEW):
        op.execute(statements)
