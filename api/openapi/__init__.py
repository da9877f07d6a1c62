"""The OpenAPI document: what the framework does not say by itself."""
