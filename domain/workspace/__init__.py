"""All definitions of a workspace as one aggregate, and the rules among them."""
