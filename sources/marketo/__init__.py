"""Marketo's REST API: activities of leads, their current values, and how far they were read."""
