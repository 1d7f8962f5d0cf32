"""A PostgreSQL of the tests' own that takes connections by TLS only.

It is Debian's: the binaries of the local stack, from a wheel, were built without TLS.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from signal import SIGINT
from typing import Any

import psycopg

from local import postgres
from tests.integration.api_server import free_port
from tests.integration.broker import eventually
from tests.integration.certificate import Identity

_CONFIG = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
fsync = off
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
"""
# Certificates are what is tried here; passwords are elsewhere.
_ACCESS = "hostssl all all 127.0.0.1/32 trust\n"


def _binary(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    path = found[-1] if found else shutil.which(name)
    assert path, "PostgreSQL with TLS is missing: apt-get install postgresql"
    return str(path)


class PostgresServer:
    """In a folder that the server's OS user may enter, which pytest's are not."""

    def __init__(self, identity: Identity) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="headwater-postgres-"))
        self._cluster = self.folder / "cluster"
        self._who = postgres.server_account()
        self._give(self.folder)
        self._run("initdb", "-D", str(self._cluster), "-U", "postgres", "--auth=trust", "--no-sync")
        for source, name in ((identity.certificate, "server.crt"), (identity.key, "server.key")):
            shutil.copyfile(source, self._cluster / name)
            (self._cluster / name).chmod(0o600)
            self._give(self._cluster / name)
        (self._cluster / "postgresql.auto.conf").write_text(_CONFIG.format(port=self.port))
        (self._cluster / "pg_hba.conf").write_text(_ACCESS)

    def start(self) -> None:
        argv = (_binary("postgres"), "-D", str(self._cluster))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdout=log, stderr=log, cwd=self.folder, **self._as_server()
            )
        eventually(self._answers, f"PostgreSQL of the tests answers, see {self.folder}/log")

    def stop(self) -> None:
        self._process.send_signal(SIGINT)
        self._process.wait(30)
        shutil.rmtree(self.folder)

    def dsn(self, host: str, sslmode: str) -> str:
        return f"postgresql://postgres@{host}:{self.port}/postgres?sslmode={sslmode}"

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            psycopg.connect(self.dsn("127.0.0.1", "require")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *argv: str) -> None:
        command = (_binary(program), *argv)
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as_server())

    def _as_server(self) -> dict[str, Any]:
        """As the OS user of the local stack's server: it refuses to be root."""
        who = self._who
        user = {"user": who.uid, "group": who.gid, "extra_groups": []} if who else {}
        return {"env": os.environ | {"LC_ALL": "C.UTF-8"}, **user}

    def _give(self, path: Path) -> None:
        if self._who:
            os.chown(path, self._who.uid, self._who.gid)
