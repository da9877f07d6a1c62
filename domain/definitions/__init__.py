"""Definitions: segments, stages, health, scores, signals, destinations, links, saved views."""
