"""The running API against its OpenAPI document: schemathesis makes the requests and judges the answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx

from headwater.settings import load_settings
from schemas.topics import create_topics
from tests.integration.api_server import ROOT, running_api
from tests.integration.outbox_harness import migrated_database, settings_of

CONFIG = Path(__file__).with_name("schemathesis.toml")
TIMEOUT_S = 300
FAST = {"HEADWATER_API__RATE_PER_SECOND": "100000", "HEADWATER_API__RATE_BURST": "200000"}


def test_the_api_answers_as_its_document_says(tmp_path: Path) -> None:
    create_topics(load_settings())
    # Starts and stops the CRM as it likes.
    with migrated_database() as name, running_api(tmp_path, **_of_its_own(tmp_path, name)) as server:
        document = httpx.get(f"{server.url}/openapi.json").json()
        email = _payload(document)["email"]
        # Making text that fits look-aheads takes minutes; unit tests hold the pattern.
        assert email.pop("pattern")
        email["format"] = "email"
        path = tmp_path / "openapi.json"
        path.write_text(json.dumps(document))
        command = [str(Path(sys.executable).with_name("st")), "--config-file", str(CONFIG), "run", str(path)]
        environment = os.environ | {
            "SCHEMATHESIS_HOOKS": "tests.integration.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
            "HEADWATER_TEST_URL": server.url,
            "HEADWATER_TEST_KEY": server.key,
        }
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    assert run.returncode == 0, run.stdout + run.stderr


def _of_its_own(folder: Path, database: str) -> dict[str, str]:
    postgres = settings_of(database).postgres.api_dsn
    return FAST | {
        "HEADWATER_UPLOADS__FOLDER": str(folder / "uploads"),
        "HEADWATER_LAKE": str(folder / "lake"),
        "HEADWATER_POSTGRES__API_DSN": postgres,
    }


def _payload(document: dict) -> dict:  # type: ignore[type-arg]  # JSON
    body = document["paths"]["/ingest"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return body["properties"]["payload"]["properties"]
