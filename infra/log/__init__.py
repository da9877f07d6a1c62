"""The event log: record format, appends, reads."""
