"""Erasure: orders, steps, legal holds, redaction, certificates, and the search for survivors."""
