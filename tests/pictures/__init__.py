"""Draws the pictures of `docs/` that a test holds against the code. `python -m tests.pictures`."""
