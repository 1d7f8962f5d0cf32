"""Elasticsearch 8.5: the build that Elastic publishes for integration tests, with the core modules.

It has aliases, templates, external versions and kNN; no scripts (painless), no ILM, no ingest pipelines.
"""

import json
import os
import re
import shutil
import urllib.request
from pathlib import Path

from local.install import command, install_once, maven_archive, profile_digest, versioned
from local.places import Account, Port, account, data, make_folder
from local.process import Launch
from local.server import Server

HTTP = Port("ELASTICSEARCH", 19200)
TRANSPORT = Port("ELASTICSEARCH_TRANSPORT", 19300)
_HEAP = "512m"

CONFIG = """\
cluster.name: headwater-local
node.name: n1
path.data: {home}/data
path.logs: {home}/logs
network.host: 127.0.0.1
http.port: {http}
transport.port: {transport}
discovery.type: single-node
xpack.security.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
action.auto_create_index: "-leads*,+*"
"""


def _account() -> Account | None:
    return account("nobody")  # it refuses to run as root


def install() -> None:
    install_once(versioned("elasticsearch"), profile_digest("elasticsearch"), _unpack)


def _unpack(folder: Path) -> None:
    maven_archive("elasticsearch", folder)
    for script in (folder / "bin").iterdir():  # zip files carry no execute bit through Python
        script.chmod(0o755)


def launch() -> Launch:
    """Write the configuration outside the distribution, so that it stays as it was installed."""
    home = make_folder(data("elasticsearch"), _account(), mode=0o750)
    for part in ("config", "config/jvm.options.d", "data", "logs", "tmp"):
        make_folder(home / part, _account())
    _write_config(home)
    env = {
        "ES_PATH_CONF": str(home / "config"),
        "ES_TMPDIR": str(home / "tmp"),
        "ES_JAVA_HOME": str(Path(os.path.realpath(command("java"))).parents[1]),
    }
    binary = str(versioned("elasticsearch") / "bin" / "elasticsearch")
    return Launch((binary,), cwd=home, env=env, user=_account())


def _write_config(home: Path) -> None:
    shipped = versioned("elasticsearch") / "config"
    config = home / "config"
    options = (shipped / "jvm.options").read_text(encoding="utf-8")
    options = re.sub(r"^.*-Xlog:gc.*$", "", options, flags=re.MULTILINE)
    options = options.replace("=logs/", f"={home}/logs/")
    options = options.replace("HeapDumpPath=data", f"HeapDumpPath={home}/data")
    text = CONFIG.format(home=home, http=HTTP.number, transport=TRANSPORT.number)
    shutil.copyfile(shipped / "log4j2.properties", config / "log4j2.properties")
    _give(config / "log4j2.properties")
    for name, content in {
        "jvm.options": options,
        "jvm.options.d/heap.options": f"-Xms{_HEAP}\n-Xmx{_HEAP}\n",
        "elasticsearch.yml": text,
    }.items():
        (config / name).write_text(content, encoding="utf-8")
        _give(config / name)


def _give(path: Path) -> None:
    path.chmod(0o644)
    if who := _account():
        os.chown(path, who.uid, who.gid)


def answers() -> bool:
    """Yellow or green: with one node, replicas are never placed."""
    address = f"http://127.0.0.1:{HTTP.number}/_cluster/health"
    with urllib.request.urlopen(address, timeout=3) as reply:
        return json.load(reply)["status"] in {"yellow", "green"}


SERVER = Server(
    name="elasticsearch",
    ports=(HTTP, TRANSPORT),
    install=install,
    launch=launch,
    answers=answers,
)
