"""Read models: their upkeep, and the queries over them."""
