"""The base of read models and queries: batches, merges, pages, tables, workers."""
