"""What is asked of a session while it works."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyspark.sql import SparkSession

from headwater.execution import busy


def waiting(folder: Path) -> Callable[[Iterator[int]], Iterator[int]]:
    """A task that says that it has begun, and ends when it may."""

    def task(rows: Iterator[int]) -> Iterator[int]:
        (folder / "begun").touch()
        wait_for((folder / "may_end").exists)
        return rows

    return task


def wait_for(true: Callable[[], bool], within_s: float = 60) -> None:
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


def test_a_session_is_busy_from_the_moment_that_a_task_has_begun(spark: SparkSession, tmp_path: Path) -> None:
    rows = spark.sparkContext.parallelize(range(3), 1)
    rows.count()  # the first job of a session begins its task slowly, and is seen by anyone
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(rows.mapPartitions(waiting(tmp_path)).count)
        wait_for((tmp_path / "begun").exists)
        seen = busy(spark)
        (tmp_path / "may_end").touch()
        assert done.result(60) == 3
    assert (seen, busy(spark)) == (True, False)
