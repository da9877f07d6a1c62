"""Runs migrations on the connection that `infra.migrations.upgrade.migrate` hands over."""

from alembic import context

from infra.migrations.upgrade import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
