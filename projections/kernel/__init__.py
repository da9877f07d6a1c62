"""What every read model and query stands on: batches, merges, pages, tables, workers."""
