"""The running API against its OpenAPI document: schemathesis makes the requests and judges the answers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import httpx

from headwater.settings import load_settings
from schemas.topics import create_topics
from tests.integration.api_server import ROOT, running_api
from tests.integration.outbox_harness import migrated_database, settings_of

CONFIG = Path(__file__).with_name("schemathesis.toml")
TIMEOUT_S = 300
SQL = "x'; DROP TABLE ingestion_jobs; --"
_CALM = {200, 202, 400, 403, 404, 405, 409, 411, 415, 422}
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


def test_sql_in_any_parameter_of_any_route_is_refused_or_only_text(tmp_path: Path) -> None:
    with migrated_database() as name, running_api(tmp_path, **_of_its_own(tmp_path, name)) as server:
        document = httpx.get(f"{server.url}/openapi.json").json()
        answers: dict[tuple[str, str, str], int] = {}
        with server.client() as client:
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    for given in [*operation.get("parameters", []), {"name": "tenant_id", "in": "query"}]:
                        place = re.sub(r"\{\w+\}", quote(SQL, safe=""), path)
                        more = {"headers" if given["in"] == "header" else "params": {given["name"]: SQL}}
                        answer = client.request(method, place, **more)
                        answers[method, path, given["name"]] = answer.status_code
            jobs = client.get("/jobs")
    assert len(answers) > 60
    # Whether it is answered as if the parameter were not there (`tenant_id`), looked for in vain, or refused.
    assert {where: code for where, code in answers.items() if code not in _CALM} == {}
    assert (jobs.status_code, jobs.json()["jobs"]) == (200, [])


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
