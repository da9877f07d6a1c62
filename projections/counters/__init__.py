"""Counters of metadata: requested, filled from the log, kept up to date."""
