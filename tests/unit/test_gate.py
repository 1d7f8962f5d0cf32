"""The rule of tests/conftest.py: what is skipped, or expected to fail, fails the run by name."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = """
import pytest

def test_that_runs(): pass

@pytest.mark.skip(reason="x")
def test_skipped_by_a_mark(): pass

def test_skipped_from_inside(): pytest.skip("x")

@pytest.mark.xfail
def test_expected_to_fail(): assert False
"""


def run(folder: Path, text: str) -> tuple[int, str]:
    (folder / "test_it.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-c", "/dev/null", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout


def test_every_test_that_did_not_run_is_named_and_the_run_fails(tmp_path: Path) -> None:
    code, out = run(tmp_path, LEFT_OUT)
    assert code == 1
    for name in ("test_skipped_by_a_mark", "test_skipped_from_inside", "test_expected_to_fail"):
        assert f"::{name}" in out
    assert out.count("NOT RUN") == 3


def test_a_file_that_is_skipped_as_a_whole_fails_the_run(tmp_path: Path) -> None:
    whole = "import pytest\npytest.skip('x', allow_module_level=True)\n"
    code, out = run(tmp_path, whole + "def test_it(): pass\n")
    assert (code != 0, "NOT RUN" in out) == (True, True)
