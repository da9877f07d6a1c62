"""The condition language: its syntax, its checks, its meaning, its wording."""
