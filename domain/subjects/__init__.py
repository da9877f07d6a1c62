"""User and account aggregates, and what a batch of commands makes of them."""
