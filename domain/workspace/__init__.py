"""All definitions of a workspace as one aggregate, and what must hold among them."""
