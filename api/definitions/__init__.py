"""Routes about what people define: segments, definitions, views, destinations, settings."""
