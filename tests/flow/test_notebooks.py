"""What analysts meet: names in a session, the notebooks, and docs/analysts.md, on a small lake."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from headwater.settings import ROOT, Settings
from schemas.comments import comments, lake_tables, personal_columns
from schemas.gold import SESSION_KPIS
from sources.lake import lake_session
from tests.conftest import settings_at
from tests.flow.small_lake import make_small_lake

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LEFT_BEHIND = ("spark-warehouse", "metastore_db", "derby.log")
_LIMIT_S = 400  # of a machine that has much else to do


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = settings_at(tmp_path_factory.mktemp("small") / "lake")
    make_small_lake(spark, settings)
    return settings


@pytest.fixture
def untouched(lake: Settings) -> Iterator[None]:
    """Nothing in the lake is written, made or deleted meanwhile; and nothing is left beside the notebooks."""
    before = files(lake)
    yield
    assert files(lake) == before
    assert not [name for name in LEFT_BEHIND if (ROOT / "notebooks" / name).exists()]


def files(settings: Settings) -> dict[str, int]:
    found = Path(settings.lake_root).rglob("*")
    return {str(path): path.stat().st_mtime_ns for path in found}


@pytest.mark.usefixtures("untouched")
def test_the_notebooks_run_and_their_proofs_hold(lake: Settings) -> None:
    """Each in a kernel of its own, by nbmake; their last cells compare what they show."""
    assert len(NOTEBOOKS) == 3
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HEADWATER_ENV": "staging",  # which needs no secret file
        "HEADWATER_LAKE": lake.lake_root,
        "HEADWATER_SPARK__MASTER": "local[2]",
        "HEADWATER_SPARK__DRIVER_MEMORY": "1g",
        "HEADWATER_SPARK__SHUFFLE_PARTITIONS": "2",
    }
    plain = ["-c", os.devnull, "--rootdir", str(ROOT / "notebooks"), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plain, "--nbmake", *map(str, NOTEBOOKS)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert "3 passed" in ended.stdout


@pytest.mark.usefixtures("spark", "untouched")
def test_tables_have_names_and_columns_have_comments(lake: Settings) -> None:
    session = lake_session(settings=lake)
    told = session.sql("DESCRIBE TABLE gold.session_kpis").collect()
    shown = {name: text for name, text in comments(SESSION_KPIS).items() if name not in {"user_id", "extras"}}
    assert {row["col_name"]: row["comment"] for row in told} == shown
    assert session.table("gold.session_kpis").count() > 0
    there = {f"{db}.{t.name}" for db in ("gold", "silver") for t in session.catalog.listTables(db)}
    assert {"gold.billing_periods", "silver.usage"} < there
    assert "silver.leads" not in there  # which this lake has not


@pytest.mark.usefixtures("spark", "untouched")
def test_personal_columns_and_raw_records_are_shown_only_when_asked_for(lake: Settings) -> None:
    masked = lake_session(settings=lake)
    made = [t for t in lake_tables() if masked.catalog.tableExists(t.full_name)]
    for table in made:
        assert not personal_columns() & set(masked.table(table.full_name).columns), table.full_name
    whole = lake_session(masked=False, settings=lake)
    for table in made:
        assert whole.table(table.full_name).columns == list(comments(table)), table.full_name
    assert lake_session(settings=lake).table("bronze.interactions").columns[0] == "topic"


def examples() -> list[str]:
    """The blocks of Python in the document."""
    text = (ROOT / "docs" / "analysts.md").read_text(encoding="utf-8")
    found: list[str] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return found


@pytest.mark.usefixtures("spark", "untouched")
@pytest.mark.parametrize("number", range(len(examples())))
def test_the_documents_examples_run(lake: Settings, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends with `rows`, of which there are some."""
    for module in ("sources.lake", "headwater.settings"):
        monkeypatch.setattr(f"{module}.load_settings", lambda: lake)
    example = examples()[number].replace(".local/lake", lake.lake_root).replace("date(2026", "date(2025")
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - our own document
    rows = names["rows"]
    assert (rows.count() if hasattr(rows, "toPandas") else len(rows)) > 0


@pytest.mark.usefixtures("spark")
def test_the_small_lake_has_a_closed_month_and_adjustments_to_it(lake: Settings) -> None:
    session = lake_session(settings=lake)
    months = [row["month"] for row in session.table("gold.billing_periods").collect()]
    late = session.table("gold.billing_daily").where("period > trunc(day, 'month')")
    assert months == [date(2025, 2, 1)]
    assert late.count() > 0
