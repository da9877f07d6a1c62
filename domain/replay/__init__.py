"""The past again, as it was known by when it occurred."""
