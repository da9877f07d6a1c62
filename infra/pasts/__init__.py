"""Pasts: read models as of a past instant, each in a database of its own."""
