"""What Annals stands on: log, keys, database, configuration, wired in one place."""
