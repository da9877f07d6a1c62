"""The condition language: what it says, what may be said, what it means, in words."""
