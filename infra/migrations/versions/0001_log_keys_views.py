"""The three schemas: the log, the keys, the read models; and a role for each.

Every big table begins its primary key with log_partition, so that the same schema can be
distributed by it. Append-only is a grant: the log's role can neither update nor delete events.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['annals_log', 'annals_keys', 'annals_views'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the server: another database of it has made this one
        END;
        BEGIN
            EXECUTE format('SET LOCAL ROLE %I', name);
        EXCEPTION WHEN insufficient_privilege THEN
            -- From PostgreSQL 16 on, who makes a role may grant it but not take it on.
            EXECUTE format('GRANT %I TO %I', name, current_user);
        END;
        RESET ROLE;
    END LOOP;
END $$
"""

LOG = """
CREATE SCHEMA log;

CREATE TABLE log.events (
    log_partition smallint NOT NULL,
    position bigint NOT NULL,
    stream uuid NOT NULL,
    version bigint,
    event_id uuid NOT NULL,
    account uuid,
    topic text NOT NULL,
    schema_version smallint NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    state bytea NOT NULL,
    account_state bytea,
    hash bytea NOT NULL,
    PRIMARY KEY (log_partition, position)
);
ALTER TABLE log.events
    ALTER COLUMN state SET STORAGE EXTERNAL,
    ALTER COLUMN account_state SET STORAGE EXTERNAL;
COMMENT ON COLUMN log.events.version IS
    'place in the aggregate''s history; null for tracked activity, which no aggregate loads';
CREATE UNIQUE INDEX events_version ON log.events (log_partition, stream, version)
    WHERE version IS NOT NULL;
CREATE INDEX events_of_stream ON log.events (stream, occurred_at);
CREATE INDEX events_of_account ON log.events (account, occurred_at, log_partition, position)
    WHERE account IS NOT NULL;

CREATE TABLE log.heads (
    log_partition smallint PRIMARY KEY,
    head bigint NOT NULL,
    hash bytea NOT NULL
) WITH (fillfactor = 20);
INSERT INTO log.heads
SELECT p, 0, decode(repeat('00', 32), 'hex') FROM generate_series(0, 255) p;

CREATE TABLE log.message_ids (
    log_partition smallint NOT NULL,
    message_key bytea NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (log_partition, message_key)
);
CREATE INDEX message_ids_by_age ON log.message_ids USING brin (recorded_at);

CREATE TABLE log.snapshots (
    log_partition smallint NOT NULL,
    stream uuid NOT NULL,
    version bigint NOT NULL,
    schema_version smallint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (log_partition, stream)
);

CREATE TABLE log.catalogue (
    scope text NOT NULL,
    name text NOT NULL,
    value_type text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, name)
);

GRANT USAGE ON SCHEMA log TO annals_log;
GRANT SELECT, INSERT ON log.events TO annals_log;
GRANT SELECT, UPDATE ON log.heads TO annals_log;
GRANT SELECT, INSERT, DELETE ON log.message_ids TO annals_log;
GRANT SELECT, INSERT, UPDATE, DELETE ON log.snapshots TO annals_log;
GRANT SELECT, INSERT ON log.catalogue TO annals_log;
"""

KEYS = """
CREATE SCHEMA keys;

CREATE TABLE keys.secrets (
    name text PRIMARY KEY,
    key_encryption_key text NOT NULL,
    wrapped bytea NOT NULL
);

CREATE TABLE keys.subject_keys (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    version smallint NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'destroyed')),
    key_encryption_key text NOT NULL,
    wrapped bytea,
    fingerprint bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    PRIMARY KEY (log_partition, subject, version),
    CHECK ((state = 'active') = (wrapped IS NOT NULL)),
    CHECK ((state = 'destroyed') = (destroyed_at IS NOT NULL))
);

CREATE TABLE keys.generation (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    value bigint NOT NULL
);
INSERT INTO keys.generation (value) VALUES (0);

CREATE TABLE keys.identities (
    log_partition smallint NOT NULL,
    lookup bytea NOT NULL,
    subject uuid NOT NULL,
    PRIMARY KEY (log_partition, lookup)
);
CREATE INDEX identities_of_subject ON keys.identities (log_partition, subject);

CREATE TABLE keys.erasures (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    kind text NOT NULL,
    requested_by text NOT NULL,
    reason text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    PRIMARY KEY (log_partition, subject)
);

CREATE TABLE keys.api_keys (
    digest bytea PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    scope text NOT NULL CHECK (scope IN ('write', 'read', 'audit', 'comply', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

GRANT USAGE ON SCHEMA keys TO annals_keys;
GRANT SELECT, INSERT ON keys.secrets TO annals_keys;
GRANT SELECT, INSERT, UPDATE ON keys.subject_keys TO annals_keys;
GRANT SELECT, UPDATE ON keys.generation TO annals_keys;
GRANT SELECT, INSERT, UPDATE, DELETE ON keys.identities TO annals_keys;
GRANT SELECT, INSERT, UPDATE ON keys.erasures TO annals_keys;
GRANT SELECT, INSERT, UPDATE ON keys.api_keys TO annals_keys;
"""

VIEWS = """
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE SCHEMA views;

CREATE TABLE views.checkpoints (
    projector text NOT NULL,
    log_partition smallint NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    worker uuid,
    fencing_token bigint NOT NULL DEFAULT 0,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (projector, log_partition)
) WITH (fillfactor = 20);

CREATE TABLE views.fences (
    projector text PRIMARY KEY
);
COMMENT ON TABLE views.fences IS
    'batches lock a row for share, a batch that merges or erases for update: so none of another'
    ' worker is under way that still writes for the subject that goes';

CREATE TABLE views.workers (
    projector text NOT NULL,
    worker uuid NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (projector, worker)
);

CREATE TABLE views.parked (
    projector text NOT NULL,
    log_partition smallint NOT NULL,
    position bigint NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projector, log_partition, position)
);

CREATE TABLE views.contacts (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    kind text NOT NULL,
    identities jsonb NOT NULL DEFAULT '[]',
    properties jsonb NOT NULL DEFAULT '{}',
    name text GENERATED ALWAYS AS (coalesce(
        properties ->> 'name',
        properties ->> 'full_name',
        nullif(trim(
            coalesce(properties ->> 'first_name', properties ->> 'firstName', '') || ' ' ||
            coalesce(properties ->> 'last_name', properties ->> 'lastName', '')
        ), '')
    )) STORED,
    external_id text GENERATED ALWAYS AS (jsonb_path_query_first(
        identities, '$[*] ? (@.scheme == "user_id" || @.scheme == "account_id").value'
    ) #>> '{}') STORED,
    email text GENERATED ALWAYS AS (coalesce(
        jsonb_path_query_array(
            identities, '$[*] ? (@.scheme == "email" && !(@.absorbed == true)).value') ->> -1,
        jsonb_path_query_array(identities, '$[*] ? (@.scheme == "email").value') ->> -1
    )) STORED,
    domain text GENERATED ALWAYS AS (coalesce(
        jsonb_path_query_array(
            identities, '$[*] ? (@.scheme == "domain" && !(@.absorbed == true)).value') ->> -1,
        jsonb_path_query_array(identities, '$[*] ? (@.scheme == "domain").value') ->> -1
    )) STORED,
    changed_at jsonb NOT NULL DEFAULT '{}',
    registered_at timestamptz,
    first_seen timestamptz,
    last_seen timestamptz,
    PRIMARY KEY (log_partition, subject)
) WITH (fillfactor = 70);
CREATE INDEX contacts_by_last_seen ON views.contacts
    (kind, coalesce(last_seen, '-infinity'::timestamptz), subject);
CREATE INDEX contacts_by_name ON views.contacts (kind, coalesce(name, ''), subject);
CREATE INDEX contacts_search ON views.contacts USING gin (
    (coalesce(name, '') || ' ' || coalesce(email, '') || ' ' || coalesce(domain, '')
     || ' ' || coalesce(external_id, '')) gin_trgm_ops
);

CREATE TABLE views.merges (
    log_partition smallint NOT NULL,
    loser uuid NOT NULL,
    survivor uuid NOT NULL,
    PRIMARY KEY (log_partition, loser)
);
CREATE INDEX merges_of_survivor ON views.merges (survivor);

CREATE TABLE views.memberships (
    log_partition smallint NOT NULL,
    user_id uuid NOT NULL,
    account_id uuid NOT NULL,
    role text,
    properties jsonb NOT NULL DEFAULT '{}',
    joined_at timestamptz NOT NULL,
    left_at timestamptz,
    PRIMARY KEY (log_partition, user_id, account_id)
);
CREATE INDEX memberships_of_account ON views.memberships (account_id, user_id);

CREATE TABLE views.names (
    kind text NOT NULL,
    name text NOT NULL,
    id integer NOT NULL UNIQUE,
    PRIMARY KEY (kind, name)
);

CREATE TABLE views.activity_days (
    log_partition smallint NOT NULL,
    subject uuid NOT NULL,
    name_id integer NOT NULL,
    day date NOT NULL,
    in_account boolean NOT NULL,
    count bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (log_partition, subject, name_id, day, in_account)
) WITH (fillfactor = 70);
CREATE INDEX activity_days_of_name ON views.activity_days (name_id);
COMMENT ON COLUMN views.activity_days.in_account IS
    'whether the events named an account; an account''s pages are its own rows and those of its'
    ' members that name no account';

CREATE TABLE views.catalogue (
    scope text NOT NULL,
    name text NOT NULL,
    value_type text,
    uses bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (scope, name)
);

GRANT USAGE ON SCHEMA views TO annals_views;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA views TO annals_views;
"""

DISTRIBUTE = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        PERFORM create_distributed_table(name, 'log_partition') FROM unnest(ARRAY[
            'log.events', 'log.heads', 'log.message_ids', 'log.snapshots', 'keys.subject_keys',
            'keys.identities', 'views.contacts', 'views.memberships', 'views.activity_days',
            'views.merges']) AS name;
    END IF;
END $$
"""


def upgrade() -> None:
    for statements in (ROLES, LOG, KEYS, VIEWS, DISTRIBUTE):
        op.execute(statements)
