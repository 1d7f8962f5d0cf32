"""The clock of a process that was started in another zone."""

import os
import subprocess
import sys

MOMENT = """
from pyspark.sql.types import TimestampType
from headwater.clock import keep_to_utc

print(TimestampType().fromInternal(0))
keep_to_utc()
print(TimestampType().fromInternal(0))
"""


def test_moments_of_spark_are_in_utc_wherever_a_job_was_started() -> None:
    env = {**os.environ, "TZ": "America/New_York"}
    done = subprocess.run(
        [sys.executable, "-c", MOMENT], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["1969-12-31 19:00:00", "1970-01-01 00:00:00"]
