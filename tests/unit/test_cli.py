"""The command line as schedulers meet it: words, exit codes, the status line."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headwater.errors import HeadwaterError, LockedError, QualityError, SetupError, TransientError
from jobs import launch as launching
from jobs.launch import Launch
from jobs.queries import Context
from jobs.registry import JOBS

ROOT = Path(__file__).resolve().parents[2]
CANARY = "ada.lovelace@example.com"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Launch a job that raises this fault, or none; its exit code and last stdout line."""
    monkeypatch.setattr(launching, "configure_logging", lambda: None)

    def with_fault(fault: BaseException | None, **more: Any) -> tuple[int, dict[str, Any]]:
        def work(*_: Any) -> dict[str, Any]:
            if fault:
                raise fault
            return {"rows_in": 3}

        monkeypatch.setattr(launching, "_run", work)
        with pytest.raises(SystemExit) as left:
            launching.launch(Launch("refine", ("leads",), True, env="staging", **more))
        code = left.value.code
        assert isinstance(code, int)
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return with_fault


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (HeadwaterError("why"), 1),
        (TransientError("why"), 1),
        (SetupError("why"), 2),
        (QualityError("why"), 3),
        (LockedError("why"), 4),
    ],
)
def test_a_fault_becomes_its_exit_code_and_a_failed_status(
    run: Any, fault: HeadwaterError, code: int
) -> None:
    found, status = run(fault)
    assert (found, status["status"], status["error"]) == (code, "failed", "why")


def test_a_foreign_fault_exits_1_without_its_text(run: Any) -> None:
    code, status = run(ValueError(f"Key (email)=({CANARY})"))
    assert code == 1
    assert CANARY not in json.dumps(status)


def test_a_run_that_went_well_exits_0_with_its_counts(run: Any) -> None:
    code, status = run(None, run_id="r1")
    assert (code, status["job"], status["run_id"], status["status"], status["rows_in"]) == (
        0,
        "refine",
        "r1",
        "ok",
        3,
    )
    assert status["seconds"] >= 0


def test_a_run_id_counts_for_one_file_of_one_dataset_and_tenant() -> None:
    base = Launch("import-files", (), True, "r1", file="a.csv", dataset="d", tenant="t")
    others = [replace(base, file="b.csv"), replace(base, dataset="e"), replace(base, tenant="u")]
    assert len({base.work, *(other.work for other in others)}) == 4


def test_a_run_that_cannot_be_written_down_still_tells_what_ended_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(context: Context, _: Launch) -> dict[str, Any]:
        context.totals.add(rows_in=7)
        raise SetupError("why")

    def away(*_: Any) -> None:
        raise OSError("the lake is away")

    monkeypatch.setattr(launching, "configure_logging", lambda: None)
    monkeypatch.setattr(launching, "build_session", lambda *_: SimpleNamespace(stop=lambda: None))
    monkeypatch.setattr(launching, "_serve_metrics", lambda _: None)
    monkeypatch.setattr(launching, "record_run", away)
    monkeypatch.setitem(JOBS, "refine", ends)
    with pytest.raises(SystemExit) as left:
        launching.launch(Launch("refine", ("leads",), True, env="staging"))
    status = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (left.value.code, status["status"], status["error"]) == (2, "failed", "why")
    # And what it had done by then.
    assert (status["rows_in"], status["table_versions"]) == (7, {})


def test_the_status_file_holds_the_last_stdout_line(run: Any, tmp_path: Path) -> None:
    _, status = run(SetupError("why"), status_file=str(tmp_path / "status.json"))
    assert json.loads((tmp_path / "status.json").read_text(encoding="utf-8")) == status


def test_a_dry_run_prints_the_configuration_without_secrets_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWATER_POSTGRES__PASSWORD", CANARY)
    launching.load_settings.cache_clear()
    monkeypatch.setattr(launching, "build_session", lambda *_: pytest.fail("a session was started"))
    with pytest.raises(SystemExit) as left:
        launching.launch(Launch("ingest", ("leads",), True, dry_run=True, env="staging"))
    out = capsys.readouterr().out
    assert left.value.code == 0
    assert '"bootstrap"' in out and '"plan"' in out and CANARY not in out
    launching.load_settings.cache_clear()


def words(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "TERM": "dumb", **env},
    )


def test_help_lists_every_job() -> None:
    listed = words("--help").stdout
    assert [name for name in JOBS if f" {name} " not in listed] == []


def test_an_unknown_option_exits_2() -> None:
    assert words("ingest", "--domain", "leads", "--onse").returncode == 2


def test_an_unknown_environment_exits_2_with_a_status_line_and_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    done = words("ingest", "--domain", "leads", "--env", "nowhere", "--status-file", str(file))
    last = done.stdout.splitlines()[-1]
    assert (done.returncode, json.loads(last)["status"]) == (2, "failed")
    assert file.read_text(encoding="utf-8").strip() == last


def test_a_wrong_setting_exits_2_and_is_named() -> None:
    done = words(
        "ingest", "--domain", "leads", "--env", "staging", HEADWATER_SPARK__SHUFFLE_PARTITIONS="none"
    )
    status = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 2
    assert "spark.shuffle_partitions" in status["error"]
