"""The console: pages for people, over the public HTTP API and nothing else."""
