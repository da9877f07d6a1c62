"""Erasure: what is asked, which steps it takes, what it leaves and what it certifies."""
