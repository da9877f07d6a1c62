"""Runs migrations on the connection that `infra.database.migrate` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="annals_schema_version")
with context.begin_transaction():
    context.run_migrations()
