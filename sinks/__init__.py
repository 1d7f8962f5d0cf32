"""Where finished rows are copied: one file per system, each safe to write twice."""
