"""Wiring: each job reads, calls transformations/, and writes."""
