"""The stack on one machine without Docker: a launcher, not a supervisor."""
