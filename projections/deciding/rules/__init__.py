"""Rules: segments, stages, health, scores, signals."""
