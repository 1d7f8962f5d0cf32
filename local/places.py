"""Where the stack keeps things, which OS user owns them, and which ports it takes.

Secrets always live in the checkout's `.local/secrets`. Binaries, data and logs live in `.local` too,
unless root runs a checkout that the servers' OS users cannot enter (say, under /root), or HEADWATER_STATE
names another folder: a second stack, with ports of its own.
"""

import hashlib
import os
import pwd
import stat
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from headwater.errors import SetupError

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"
SECRETS = LOCAL / "secrets"
ELSEWHERE = Path("/var/lib/headwater")
STATE = "HEADWATER_STATE"


@dataclass(frozen=True)
class Port:
    """A port with its default; HEADWATER_PORT_<variable> overrides."""

    variable: str
    default: int

    @property
    def name(self) -> str:
        return f"HEADWATER_PORT_{self.variable}"

    @property
    def number(self) -> int:
        text = os.environ.get(self.name) or str(self.default)
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise SetupError(f"{self.name}={text} is not a port: expected 1 to 65535")
        return int(text)


@dataclass(frozen=True)
class Account:
    """The OS user that a server runs as when root starts it."""

    name: str
    uid: int
    gid: int


def account(*wanted: str) -> Account | None:
    """The first of the wanted users that exists; None (run as oneself) unless we are root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in wanted:
        if name in known:
            return Account(name, known[name].pw_uid, known[name].pw_gid)
    raise SetupError(f"root may not run this server, and none of these OS users exists: {wanted}")


def traversable(folder: Path) -> bool:
    """Whether any OS user may pass through the folder and everything above it."""
    return all(step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents))


@cache
def state() -> Path:
    """The folder of binaries, data, logs and pid files; made when missing."""
    if named := os.environ.get(STATE):
        return make_folder(Path(named).resolve())
    folder = LOCAL
    if os.geteuid() == 0 and not traversable(ROOT):
        folder = ELSEWHERE / hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    make_folder(LOCAL).chmod(0o755)  # it may be there, made by something with a strict umask
    return make_folder(folder)


def make_folder(path: Path, owner: Account | None = None, mode: int = 0o755) -> Path:
    """The folder, made with exactly this mode whatever the umask, and given to its OS user."""
    missing = [step for step in (path, *path.parents) if not step.exists()]
    for step in reversed(missing):
        step.mkdir(exist_ok=True)
        step.chmod(mode if step == path else 0o755)
    if owner:
        os.chown(path, owner.uid, owner.gid)
    return path


def data(name: str) -> Path:
    return state() / "data" / name


def dist(name: str) -> Path:
    return state() / "dist" / name


def log_path(name: str) -> Path:
    return make_folder(state() / "logs") / f"{name}.log"


def say(line: str) -> None:
    """One progress line, on stderr: stdout belongs to results."""
    sys.stderr.write(f"{line}\n")  # one write: lines of parallel starts must not mix
    sys.stderr.flush()
