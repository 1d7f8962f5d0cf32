"""The example DAG: words that the command line knows, and what it does with each exit code."""

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headwater.errors import HeadwaterError, LockedError, QualityError, SetupError
from jobs import cli, commands_batch
from jobs.launch import Launch

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "airflow_import.py"


class Retried(Exception):
    """Stands for AirflowException."""


class NotRetried(Retried):
    """Stands for AirflowFailException."""


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., None]]:
    """The tasks that the DAG declares, run where Airflow is not installed."""
    declared: list[Callable[..., None]] = []

    def task(work: Callable[..., None]) -> Callable[[], None]:
        return lambda: declared.append(work)

    exceptions, sdk = types.ModuleType("airflow.exceptions"), types.ModuleType("airflow.sdk")
    vars(exceptions).update(AirflowException=Retried, AirflowFailException=NotRetried)
    vars(sdk).update(dag=lambda **_: lambda declare: declare, task=task)
    monkeypatch.setitem(sys.modules, "airflow", types.ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.exceptions", exceptions)
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    exec(compile(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE, "exec"), {})  # noqa: S102 - a file of ours
    return declared


def words_of(tasks: list[Callable[..., None]], monkeypatch: pytest.MonkeyPatch, code: int) -> list[str]:
    """What the one task runs, on a machine where that ends with this code."""
    seen: list[list[str]] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(words)
        return subprocess.CompletedProcess(words, code)

    monkeypatch.setattr(subprocess, "run", run)
    (work,) = tasks
    work(ds_nodash="20260301")
    return seen[0]


def test_the_example_calls_the_command_line_with_words_that_it_knows(
    tasks: list[Callable[..., None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_of(tasks, monkeypatch, 0)
    assert words[:4] == [".venv/bin/python", "-m", "jobs", "import-files"]
    launched: list[Launch] = []
    monkeypatch.setattr(commands_batch, "launch", launched.append)
    done = CliRunner().invoke(cli.app, words[3:])
    assert done.exit_code == 0, done.output
    order = launched[0]
    assert (order.job, order.dataset, order.tenant) == ("import-files", "contacts", "acme")
    assert order.file and order.file.endswith("20260301.csv.gz")
    assert order.run_id == "contacts-20260301"


@pytest.mark.parametrize(
    ("fault", "ends"),
    [(HeadwaterError, Retried), (SetupError, NotRetried), (QualityError, NotRetried), (LockedError, Retried)],
)
def test_what_a_person_must_mend_is_not_tried_again(
    tasks: list[Callable[..., None]],
    monkeypatch: pytest.MonkeyPatch,
    fault: type[HeadwaterError],
    ends: type[Exception],
) -> None:
    with pytest.raises(Retried) as failed:
        words_of(tasks, monkeypatch, fault.exit_code)
    assert failed.type is ends
