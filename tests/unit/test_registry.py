"""What `jobs run` starts for which domains."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from headwater.settings import load_settings
from jobs import registry
from jobs.launch import Launch
from jobs.queries import Context


def started(monkeypatch: pytest.MonkeyPatch, *domains: str, prove: bool = False) -> tuple[list[str], Any]:
    """Names of all that would run, and what is proven; nothing is connected to."""
    names: list[str] = []

    class Runs:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.stopping = threading.Event()

        def run(self, works: list[Any]) -> None:
            names.extend(work.name for work in works)

    def named(job: str) -> Any:
        return lambda _context, *words: SimpleNamespace(name=".".join([job, *words]))

    monkeypatch.setattr(registry, "Runtime", Runs)
    for job in ("Ingest", "Refine", "Deliver"):
        monkeypatch.setattr(registry, job, named(job.lower()))
    monkeypatch.setattr(registry, "enabled_loops", lambda *_: [])
    monkeypatch.setattr(registry, "reconcile", lambda _context, domain, *_, **__: domain)
    context = Context(None, load_settings("local"), "test")  # type: ignore[arg-type]
    found = registry.JOBS["run"](context, Launch("run", domains, once=False, prove=prove))
    return names, found


def test_without_a_domain_all_run_and_imports_are_left_to_their_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, found = started(monkeypatch, prove=True)
    assert {"ingest.leads", "refine.leads", "deliver.leads.postgres", "deliver.uploads.dlq"} <= set(names)
    assert {"ingest.crm", "refine.crm", "deliver.crm.dlq"} <= set(names)
    assert {"ingest.interactions", "refine.interactions", "deliver.interactions.dlq"} <= set(names)
    assert not {"ingest.uploads", "refine.uploads"} & set(names)
    assert found == {"proof": {"crm": "crm", "interactions": "interactions", "leads": "leads"}}


def test_a_domain_runs_alone_and_dead_letters_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    names, _ = started(monkeypatch, "leads")
    assert all(name.split(".")[1] == "leads" for name in names)
    assert names[-1] == "deliver.leads.dlq"
    assert "compact.leads" in names
    assert started(monkeypatch, "uploads")[0] == ["deliver.uploads.dlq"]


def test_a_domain_that_nobody_knows_is_given_to_ingest_which_refuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "ingest.nothing" in started(monkeypatch, "nothing")[0]
