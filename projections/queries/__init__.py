"""Queries over the read models and the log, a file for each thing shown."""
