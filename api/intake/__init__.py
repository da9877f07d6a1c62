"""Intake: a file for each protocol that messages come in by."""
