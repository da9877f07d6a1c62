"""User and account aggregates, and batches of commands on them."""
