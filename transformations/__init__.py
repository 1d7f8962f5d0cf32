"""What the data means: DataFrame → DataFrame, and plain Python that decides of one record.

No I/O, no session, no settings.
"""
