"""Routes about definitions: segments, definitions, views, destinations, settings."""
