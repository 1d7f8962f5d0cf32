"""Notebooks as they lie in git, and the words for every column."""

import json

import pytest

from headwater.settings import ROOT
from headwater.text import snake_case
from jobs.build_crm import KEYS
from schemas.comments import comments, lake_tables, personal_columns
from schemas.contract import contracts
from schemas.gold import BILLING_PERIODS, GOLD
from schemas.tables import Table
from transformations.kpi.registry import KPIS

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_LETTERS = 120


@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_a_notebook_in_git_has_no_outputs(name: str) -> None:
    cells = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))["cells"]
    ran = [c["id"] for c in cells if c["cell_type"] == "code" and (c["outputs"] or c["execution_count"])]
    assert ran == []


@pytest.mark.parametrize("table", lake_tables(), ids=lambda table: table.full_name)
def test_every_column_says_what_it_holds(table: Table) -> None:
    said = comments(table)
    assert all(said.values())
    assert [text for text in said.values() if len(text) > MOST_LETTERS] == []


def test_every_gold_table_is_listed() -> None:
    assert set(GOLD) == {*[kpi.gold for kpi in KPIS.values()], BILLING_PERIODS, *KEYS}


def test_a_silver_column_says_what_its_contract_says() -> None:
    (turns,) = [table for table in lake_tables() if table.full_name == "silver.agent_turns"]
    fields = {f.name: f.description for f in contracts()["text.agent.turn.completed"].leaves}
    assert comments(turns)["tokens_out"] == fields["tokens_out"]


def test_every_personal_field_is_personal_in_the_lake() -> None:
    named = {snake_case(f.name) for contract in contracts().values() for f in contract.leaves if f.personal}
    assert named <= personal_columns()
