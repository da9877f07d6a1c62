"""Conditions as SQL: predicates, evidence, selections."""
