"""ops.dead_letters for people: which letters there are, why, and which are done with. Without Spark."""
