"""Queries over the read models and the log, one file each."""
