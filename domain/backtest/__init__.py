"""What a definition would have decided, had it been active."""
