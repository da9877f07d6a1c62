"""Read models, one file each: their tables, and how events change them."""
