"""Keys: subject keys, month keys, sealing, rotation, and where key-encryption keys are kept."""
