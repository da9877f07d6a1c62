"""What is shown: read models, how they are kept, and the queries over them."""
