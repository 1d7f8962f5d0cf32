"""What refine observes of its rows costs no copy of them."""

import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.queries import Context
from jobs.refine import Refine
from tests.conftest import settings_at

EXPECTED = [
    "StreamingDeduplicateWithinWatermark",
    "Exchange",
    "EventTimeWatermark",
    "CollectMetrics",
    "MapInArrow",
]


@pytest.mark.parametrize("domain", ["leads", "interactions"])
def test_rows_go_from_python_to_the_observation_and_on_to_the_dedupe_as_they_are(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str], domain: str
) -> None:
    refine = Refine(Context(spark, settings_at(tmp_path), "test"), domain)
    refine.prepare()

    refine.source().explain(extended=True)

    plan = capsys.readouterr().out.split("== Physical Plan ==")[1]
    names = re.findall(r"^[ :+-]*(?:\*\(\d+\) )?(\w+)", plan, re.MULTILINE)
    assert names[:5] == EXPECTED
