"""Additions to the framework's OpenAPI document."""
