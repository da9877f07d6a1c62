"""Snapshots: read models as of a past instant."""
