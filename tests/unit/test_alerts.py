"""conf/prometheus: promtool takes the rules and finds what their tests say; no rule is without a test, and
none asks for a metric that nobody has."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from api import metrics as api_metrics
from headwater import metrics as job_metrics

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "prometheus"
RULES, TESTS = FOLDER / "alerts.yaml", sorted(FOLDER.glob("*_test.yaml"))
# Named by `make test` when it is missing.
PROMTOOL = shutil.which("promtool") or "promtool: apt-get install prometheus"
WORDS = re.compile(r"\b(?:headwater|consumer|dlq|ingest)_[a-z_]+\b")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "words",
    [("check", "rules", RULES.name), *(("test", "rules", tests.name) for tests in TESTS)],
    ids=" ".join,
)
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [PROMTOOL, *words], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout


def test_every_alert_is_tested_to_fire() -> None:
    fired = {
        case["alertname"]
        for tests in TESTS
        for test in yaml.safe_load(tests.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


def test_every_metric_that_a_rule_asks_for_is_exposed() -> None:
    assert job_metrics.EVENTS
    names = {
        sample
        for registry in (REGISTRY, api_metrics.REGISTRY)
        for family in registry.collect()
        for sample in (family.name, f"{family.name}_total", f"{family.name}_bucket")
    }
    asked = {name for rule in rules() for name in WORDS.findall(rule["expr"])}
    assert len(asked) > 5
    assert asked <= names


def test_every_alert_is_explained_to_who_meets_it() -> None:
    text = (FOLDER.parents[1] / "docs" / "operations.md").read_text()
    for rule in rules():
        assert rule.get("alert", "") in text
