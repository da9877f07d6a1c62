"""The process manager: evaluates definitions for subjects, and records the decisions."""
