# ruff: noqa: S603 - the commands are our own, and no shell reads them
"""Redis with users and an append-only file: the one on PATH, else Debian's, unpacked privately.

Its user `default` may do all, by the secret `redis`; the API and the jobs are users of their own.
"""

import platform
import shutil
import subprocess
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from headwater.errors import SetupError
from local.credentials import read_secret
from local.install import command, install_once, run
from local.places import Port, data, dist, make_folder, say, state
from local.process import Launch
from local.redis_users import USERS
from local.server import Server, StartError

PORT = Port("REDIS", 16379)
PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
ADMIN_TIMEOUT_S = 2
REMEDY = "install it yourself: apt-get install redis-server (or any Redis 6.2+ on PATH)"

CONFIG = """\
bind 127.0.0.1
port {port}
dir {home}
requirepass {password}
appendonly yes
appendfsync everysec
daemonize no
{users}
"""


def install() -> None:
    if not shutil.which("redis-server"):
        install_once(dist("redis"), " ".join(PACKAGES), _unpack)


def _unpack(folder: Path) -> None:
    """Download and unpack without installing: needs neither root nor a system-wide change."""
    try:
        _download(folder)
        for package in folder.glob("*.deb"):
            run(command("dpkg"), "-x", str(package), str(folder), what=f"unpacking {package.name}")
            package.unlink()
        _check_libraries(folder)
    except SetupError as fault:
        raise SetupError(
            f"redis-server is neither on PATH nor could be fetched; {REMEDY}\n{fault}"
        ) from fault


def _download(folder: Path) -> None:
    download = ("-q", "download", *PACKAGES)
    try:
        run(command("apt-get"), *download, what="apt-get download", cwd=folder)
    except SetupError:
        say("redis: apt's package lists are missing or old, fetching a private copy")
        private = _private_apt()
        run(command("apt-get"), *private, "-q", "update", what="apt-get update")
        run(command("apt-get"), *private, *download, what="apt-get download", cwd=folder)


def _private_apt() -> tuple[str, ...]:
    base = state() / "apt"
    for part in ("state/lists/partial", "cache/archives/partial"):
        make_folder(base / part)
    status = "Dir::State::status=/var/lib/dpkg/status"
    places = (f"Dir::State={base}/state", f"Dir::Cache={base}/cache", status)
    return tuple(word for place in places for word in ("-o", place))


def _libraries(folder: Path) -> str:
    return str(folder / "usr" / "lib" / f"{platform.machine()}-linux-gnu")


def _check_libraries(folder: Path) -> None:
    binary = folder / "usr" / "bin" / "redis-server"
    env = {"LD_LIBRARY_PATH": _libraries(folder)}
    done = subprocess.run((binary, "--version"), env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"Debian's redis-server does not run here: {done.stderr.strip()}")


def launch() -> Launch:
    home = make_folder(data("redis"))
    config = home / "redis.conf"
    config.touch(mode=0o600)
    config.chmod(0o600)
    config.write_text(configuration(home, PORT.number), encoding="utf-8")
    argv, env = program()
    return Launch((*argv, str(config)), cwd=home, env=env)


def configuration(home: Path, port: int) -> str:
    """redis.conf, users and their passwords included."""
    users = "\n".join(user.line() for user in USERS)
    return CONFIG.format(port=port, home=home, password=read_secret("redis"), users=users)


def program() -> tuple[tuple[str, ...], dict[str, str]]:
    """The server's command, and the environment that it needs."""
    if found := shutil.which("redis-server"):
        return (found,), {}
    binary = dist("redis") / "usr" / "bin" / "redis-server"
    return (str(binary),), {"LD_LIBRARY_PATH": _libraries(dist("redis"))}


def admin(database: int = 0) -> Redis:
    """A client that may do all."""
    return Redis(
        port=PORT.number,
        db=database,
        password=read_secret("redis"),
        socket_timeout=ADMIN_TIMEOUT_S,
        decode_responses=True,
    )


def answers() -> bool:
    try:
        with admin() as client:
            return bool(client.ping())
    except RedisError:
        return False


def settle() -> None:
    """Give a server that runs since before a user, or a right, was new what redis.conf has of it."""
    try:
        with admin() as client:
            for user in USERS:
                client.execute_command("ACL SETUSER", user.name, *user.rules())
    except RedisError as fault:
        raise StartError("redis", f"its users were not made: {fault}") from fault


SERVER = Server(name="redis", ports=(PORT,), install=install, launch=launch, answers=answers, settle=settle)
