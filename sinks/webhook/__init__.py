"""Captured leads → connectors: what is posted, where to, what the answer means, when to try again."""
