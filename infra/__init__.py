"""The infrastructure: log, keys, database, configuration, wired in one place."""
