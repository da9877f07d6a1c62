"""Back-tests: the decisions that a definition would have made, had it been active."""
