"""What the data means: pure DataFrame → DataFrame and Column → Column, no I/O, no session, no settings."""
