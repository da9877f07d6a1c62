"""Webhooks to destinations, from the bottom up: signing, http_client, secrets, cursors, items (what
is sent), sender (sends a message), delivery (the worker).
"""
