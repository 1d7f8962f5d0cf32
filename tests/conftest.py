"""Fixtures of the whole run, and its rule: a test that is skipped, or expected to fail, fails the run."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from pyspark.sql import SparkSession
from xdist.scheduler.loadfile import LoadFileScheduling

from headwater.session import build_session
from headwater.settings import Settings, load_settings
from local.receiver import Receiver

RECEIVER_SECRET = "geheim-of-the-test"
_not_run: list[str] = []

# A gate gives the same answer twice; HYPOTHESIS_PROFILE=explore looks further.
hypothesis_settings.register_profile("gate", deadline=None, derandomize=True, print_blob=True)
hypothesis_settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Packed bytes hold the time: a test is called the same by every worker of a run."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> "FileByFile":
    """How `make test` and `make test-faults` share their files among two workers."""
    return FileByFile(config, log)


class FileByFile(LoadFileScheduling):  # type: ignore[misc]  # a package without types
    """A file goes to one worker, and all of `tests/flow`, which work in the Spark session, to the same one.

    Tests on real servers may have a session in the other one.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "the Spark session" if file.startswith("tests/flow/") else file


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped, or expected to fail: both are reported as skipped."""
    if report.skipped or hasattr(report, "wasxfail"):
        _not_run.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember files that were skipped as a whole."""
    if report.skipped:
        _not_run.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that left something out has failed."""
    if _not_run and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left out."""
    for name in _not_run:
        terminalreporter.write_line(f"NOT RUN, so the run fails: {name}", red=True)


def settings_at(lake: Path) -> Settings:
    """Settings that need no server and no secret file: staging's, with a small local Spark and this lake."""
    base = load_settings("staging")
    small = {
        "master": "local[2]",
        "shuffle_partitions": 2,
        "conf": {"spark.ui.enabled": "false"},
    }
    return base.model_copy(update={"lake": str(lake), "spark": base.spark.model_copy(update=small)})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a lake of the test's own."""
    return settings_at(tmp_path / "lake")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark session of the run, made as a job makes its own."""
    settings = settings_at(tmp_path_factory.mktemp("lake"))
    # Of all tests of a run: what queries leave behind adds up to more than 3.
    roomy = settings.model_copy(update={"spark": settings.spark.model_copy(update={"driver_memory": "6g"})})
    session = build_session(roomy, "headwater tests")
    yield session
    session.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A connector's other side, listening; its deliveries are signed with RECEIVER_SECRET."""
    with Receiver(0, RECEIVER_SECRET) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()
