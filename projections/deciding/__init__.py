"""The process manager: what the definitions decide of whom, and when."""
