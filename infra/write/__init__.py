"""The write side: commands, aggregates, definitions and names into the log."""
