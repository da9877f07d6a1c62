"""The projector: applies the log to every read model, exactly once."""
