"""Routes of operators: health, status, API keys, parked events, snapshots."""
