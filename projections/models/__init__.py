"""Read models, a file each: its tables, how events change them."""
