"""Webhooks: what destinations are sent, how far each is, delivery and signatures."""
