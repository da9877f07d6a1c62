"""Shared by all routes: authentication, problems, bounds, read positions."""
