"""Read models as of a past instant, from the bottom up: databases, registry (the table that all
processes share), filling, pasts.
"""
