"""Apicurio Registry: Avro schemas over the Confluent-compatible API, kept in PostgreSQL."""

import urllib.request
from pathlib import Path

from local import postgres
from local.credentials import read_secret
from local.install import command, install_once, maven_archive, profile_digest, versioned
from local.places import Port, data, make_folder
from local.process import Launch
from local.server import Server

PORT = Port("REGISTRY", 18081)
API = "/apis/ccompat/v7"
_HEAP = "384m"
# Its default of 20 to 100 connections would take most of what PostgreSQL allows.
_POOL = tuple(
    f"-Dapicurio.datasource.jdbc.{k}={v}" for k, v in (("initial-size", 1), ("min-size", 1), ("max-size", 5))
)


def _home() -> Path:
    return versioned("registry", "apicurio")


def install() -> None:
    install_once(_home(), profile_digest("registry"), lambda to: maven_archive("registry", to, "copy"))


def jar() -> Path:
    """What is run."""
    (found,) = _home().glob("*-runner.jar")
    return found


def launch() -> Launch:
    memory = ("-Xms64m", f"-Xmx{_HEAP}", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
    listen = ("-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={PORT.number}")
    env = {
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "postgresql",
        "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://127.0.0.1:{postgres.PORT.number}/registry",
        "APICURIO_DATASOURCE_USERNAME": "headwater_registry",
        "APICURIO_DATASOURCE_PASSWORD": read_secret("postgres-registry"),
    }
    # PostgreSQL may restart under it: drop connections that have gone stale.
    fresh = ("-Dquarkus.datasource.postgresql.jdbc.validate-on-borrow=true", *_POOL)
    argv = (command("java"), *memory, *listen, *fresh, "-jar", str(jar()))
    return Launch(argv, cwd=make_folder(data("registry")), env=env)


def answers() -> bool:
    address = f"http://127.0.0.1:{PORT.number}{API}/subjects"
    with urllib.request.urlopen(address, timeout=3) as reply:
        return bool(reply.status == 200)


SERVER = Server(
    name="registry",
    ports=(PORT,),
    install=install,
    launch=launch,
    answers=answers,
    needs=("postgres",),
)
