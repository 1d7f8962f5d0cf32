"""The report's page: one file, everything escaped, pictures that say what they show."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headwater.quality_settings import Quality
from headwater.settings import load_settings
from jobs.quality_chart import chart
from jobs.quality_ledger import Check
from jobs.quality_page import MOST_ROWS, docs_folder, trim_docs, write_page
from jobs.quality_runs import Failure, QualityRun
from sources.ledger_days import Counts, Series

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
RUN = QualityRun("night", "silver.leads", 7, "lead.ingest@1.0.0", 1000, 1000, "all", 10, (), NOW, NOW)
GATE = Failure("rule", "rule_consented", "gate", 3, 0.003)


@pytest.fixture
def settings(tmp_path: Path) -> Quality:
    return load_settings("staging").quality.model_copy(update={"folder": tmp_path, "keep_runs": 3})


def page(settings: Quality, *runs: QualityRun, tenants: int = 1, bad: int = 0) -> str:
    found = [
        Series("lead.ingest", f"t{n}<b>", NOW, days={NOW.date() - timedelta(days=1): Counts(42)})
        for n in range(tenants)
    ]
    message = "6.0% of the last 24 hours"
    checks = [Check("lead.ingest", f"t{n}<b>", "dead_share", 0.06, None, "gate", message) for n in range(bad)]
    by_table = {runs[0].table: list(runs)} if runs else {}
    return write_page(settings, by_table, found, checks, NOW).read_text(encoding="utf-8")


def test_a_gate_that_failed_is_told_first_and_with_its_count(settings: Quality) -> None:
    text = page(settings, RUN, replace(RUN, failures=(replace(GATE, severity="warn", column="w"), GATE)))
    assert "1 gate failed." in text
    assert text.index('<td class="bad">gate</td>') < text.index('<td class="warn">warn</td>')
    assert "rule_consented" in text
    assert "8 of 10" in text


def test_everything_that_is_told_is_escaped(settings: Quality) -> None:
    text = page(settings, replace(RUN, failures=(replace(GATE, message="<script>x</script>"),)), bad=1)
    assert "<script" not in text
    assert "t0&lt;b&gt;" in text


def test_a_page_needs_nothing_else_and_says_what_its_pictures_show(settings: Quality) -> None:
    text = page(settings, RUN, RUN)
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|http", text)
    pictures = re.findall(r'<svg[^>]*role="img" aria-label="([^"]+)"', text)
    assert pictures == ["Share that passed in 2 runs: 100.0% to 100.0%", "Rows of 1 days: 42 to 42"]


def test_before_the_first_run_the_page_says_so(settings: Quality) -> None:
    assert "No table has been looked at yet." in page(settings, tenants=0)


def test_of_many_tenants_those_that_failed_are_shown(settings: Quality) -> None:
    text = page(settings, RUN, tenants=MOST_ROWS + 5, bad=2)
    assert "5 more streams and tenants" in text
    assert text.count(">gate: 6.0% of the last 24 hours<") == 2


def test_a_run_leads_to_its_data_docs_while_they_are_kept(settings: Quality) -> None:
    runs = [replace(RUN, run_id=f"../{n}", started_at=NOW + timedelta(hours=n)) for n in range(5)]
    for run in runs:
        folder = docs_folder(settings, run)
        assert folder.parent == settings.root / "docs" / "silver.leads"
        (folder / "validations").mkdir(parents=True)
        (folder / "validations" / "results.html").touch()
    (settings.root / "docs" / "silver.leads" / ".left-behind").mkdir()
    trim_docs(settings, "silver.leads")
    kept = {folder.name for folder in (settings.root / "docs" / "silver.leads").iterdir()}
    assert kept == {docs_folder(settings, run).name for run in runs[-3:]}
    assert (
        f'href="docs/silver.leads/{docs_folder(settings, runs[-1]).name}/validations/results.html"'
        in page(settings, runs[-1])
    )
    assert 'href="docs' not in page(settings, runs[0])


@pytest.mark.parametrize(
    ("values", "points"),
    [
        ([], None),
        ([0.5], None),
        ([0.0, 1.0], "0.0,40.0 160.0,0.0"),
        ([2.0, -1.0, 0.5], "0.0,0.0 80.0,40.0 160.0,20.0"),
    ],
)
def test_a_line_goes_through_its_values_and_stays_inside(values: list[float], points: str | None) -> None:
    found = re.search(r'points="([^"]*)"', chart(values, 0.0, 1.0, "told"))
    assert (found and found[1]) == points
    assert chart([3, 3], 0.0, 0.0, "told")
