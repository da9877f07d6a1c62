"""What decides: segments, stages, health, scores, signals."""
