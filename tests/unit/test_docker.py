"""The container files, held against conf/, pom.xml and the checkout as text: no engine is needed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from headwater.settings import Settings
from jobs.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PINNED = re.compile(r":v?\d+\.\d+[\w.-]*$")
PORT = re.compile(r"\$\{(HEADWATER_PORT_\w+):-(\d+)\}")


def published(service: dict[str, Any]) -> set[tuple[str, str]]:
    """(variable, default) of every published port."""
    found = (re.match(r"127\.0\.0\.1:" + PORT.pattern, text) for text in service.get("ports", []))
    return {(match[1], match[2]) for match in found if match}


def base_images() -> list[str]:
    stages = re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE)
    return [name for name in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) if name not in stages]


def test_the_services_are_those_of_the_local_stack_and_the_application() -> None:
    assert set(SERVICES) == {
        "kafka", "postgres", "redis", "elasticsearch", "registry", "api", "jobs",
        "imports",
    }  # fmt: skip


def test_every_port_of_conf_local_is_published_with_the_same_variable_and_default() -> None:
    wanted = set(PORT.findall((ROOT / "conf" / "local.yaml").read_text(encoding="utf-8")))
    given = {port for service in SERVICES.values() for port in published(service)}
    assert given == wanted


def test_ports_are_published_on_the_loopback_address_only() -> None:
    for name, service in SERVICES.items():
        for text in service.get("ports", []):
            assert text.startswith("127.0.0.1:"), name


@pytest.mark.parametrize("image", [*base_images(), *(s["image"] for s in SERVICES.values())])
def test_images_are_pinned_to_a_version(image: str) -> None:
    assert PINNED.search(image), f"{image} must name a version"


@pytest.mark.parametrize(
    ("service", "version"),
    [("kafka", "kafka"), ("elasticsearch", "elasticsearch"), ("registry", "apicurio")],
)
def test_servers_have_the_versions_of_pom_xml(service: str, version: str) -> None:
    pom = (ROOT / "pom.xml").read_text(encoding="utf-8")
    found = re.search(rf"<{version}\.version>(.+?)</", pom)
    assert found
    assert SERVICES[service]["image"].endswith(f":{found[1]}")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", ["api", "jobs"])
def test_the_application_waits_until_the_servers_are_healthy(name: str) -> None:
    waits = SERVICES[name]["depends_on"]
    assert set(waits) == {"kafka", "postgres", "redis", "elasticsearch", "registry"}
    assert {wait["condition"] for wait in waits.values()} == {"service_healthy"}


def test_api_and_jobs_run_the_same_image() -> None:
    assert SERVICES["api"]["image"] == SERVICES["jobs"]["image"]


def test_the_image_runs_as_a_user_that_is_not_root() -> None:
    users = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1] not in {"root", "0"}
    assert DOCKERFILE.rindex("\nUSER ") > DOCKERFILE.rindex("\nRUN ")


@pytest.mark.parametrize("name", ["api", "jobs"])
def test_compose_does_not_make_the_application_root(name: str) -> None:
    assert re.findall(r":-(\d+)", SERVICES[name]["user"]) == ["1000", "1000"]


def test_the_image_has_java_17_and_python_3_11() -> None:
    assert "openjdk-17-jre-headless" in DOCKERFILE
    assert [image for image in base_images() if image.startswith("python:3.11.")]
    assert not [image for image in base_images() if image.startswith("python:") and ":3.11." not in image]


def test_python_packages_are_installed_from_the_hashed_list() -> None:
    assert re.search(r"pip install .*--require-hashes -r requirements\.txt", DOCKERFILE)
    assert "--hash=sha256:" in (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_every_copied_file_exists_in_the_checkout_and_passes_the_ignore_file() -> None:
    ignore = (ROOT / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert sources
    for source in " ".join(sources).split():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore, source


def test_no_secret_is_written_into_the_files() -> None:
    secret = re.compile(r"(?:PASSWORD|AUTH|SECRET|TOKEN|_KEY)\w*\s*[:=]\s*(?P<value>\S+)")
    for match in secret.finditer(COMPOSE_TEXT + DOCKERFILE):
        assert match["value"].startswith("${"), match[0]


MANIFEST: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "spark-application.yaml").read_text())


def test_the_manifest_for_the_operator_starts_a_job_that_the_command_line_knows() -> None:
    assert (MANIFEST["apiVersion"], MANIFEST["kind"]) == ("spark.apache.org/v1", "SparkApplication")
    spec = MANIFEST["spec"]
    script = spec["pyFiles"].removeprefix("local:///app/")
    assert (ROOT / script).is_file()
    found = CliRunner().invoke(app, [*spec["driverArgs"], "--help"])
    assert found.exit_code == 0
    environment = spec["driverArgs"][spec["driverArgs"].index("--env") + 1]
    assert (ROOT / "conf" / f"{environment}.yaml").is_file()


def test_the_manifests_image_and_spark_are_what_the_dockerfile_builds() -> None:
    spec = MANIFEST["spec"]
    assert re.search(r"^FROM application AS kubernetes$", DOCKERFILE, re.MULTILINE)
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    image = spec["sparkConf"]["spark.kubernetes.container.image"]
    assert version and image == f"headwater-kubernetes:{version[1]}"
    pinned = re.search(r"^pyspark==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned and spec["runtimeVersions"]["sparkVersion"] == pinned[1]
    assert f"apache/spark:{pinned[1]}-" in DOCKERFILE
    assert (
        f"COPY --from=jars /build/{Path(spec['sparkConf']['spark.driver.extraClassPath']).parent.name} "
        in DOCKERFILE
    )


def test_the_manifest_leaves_the_master_to_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = MANIFEST["spec"]["driverSpec"]["podTemplateSpec"]["spec"]["containers"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    assert Settings.model_validate({"env": "staging"}).spark.master == ""
