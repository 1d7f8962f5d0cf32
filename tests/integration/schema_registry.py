"""An Apicurio of the tests' own, in memory, behind a port that a test may close."""

import subprocess
import urllib.request
from pathlib import Path

from headwater.settings import Registry, load_settings
from local import registry
from local.install import command
from tests.integration.api_server import free_port
from tests.integration.broker import eventually
from tests.integration.forwarder import Forwarder

_START_S = 120.0


class SchemaRegistry:
    """`settings` lead to the port that may be closed."""

    def __init__(self, folder: Path) -> None:
        registry.install()
        self._port, self._folder = free_port(), folder
        self.door = Forwarder(f"127.0.0.1:{self._port}")
        url = f"http://127.0.0.1:{self.door.port}{registry.API}"
        self.settings: Registry = load_settings("local").registry.model_copy(update={"url": url})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = {"APICURIO_STORAGE_KIND": "sql", "APICURIO_STORAGE_SQL_KIND": "h2", "PATH": "/usr/bin:/bin"}
        memory = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        listen = ("-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self._port}")
        argv = [command("java"), *memory, *listen, "-jar", str(registry.jar())]
        with (self._folder / "registry.log").open("wb") as log:
            self._process = subprocess.Popen(
                argv, cwd=self._folder, env=env, stdout=log, stderr=log, start_new_session=True
            )
        eventually(self._answers, f"the registry of the tests answers, see {self._folder}", _START_S)

    def stop(self) -> None:
        self.door.close()
        if self._process:
            self._process.kill()
            self._process.wait(30)

    def _answers(self) -> bool:
        address = f"http://127.0.0.1:{self._port}{registry.API}/subjects"
        try:
            with urllib.request.urlopen(address, timeout=3) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False
