"""Connections to PostgreSQL: pools, engines, copy streams, notifications."""
