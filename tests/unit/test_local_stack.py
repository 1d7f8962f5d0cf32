"""The local stack's pure parts: ports, pids that may be recycled, lines for the shell, secrets."""

import json
import os
import shlex
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from types import SimpleNamespace

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from headwater.errors import SetupError
from headwater.settings import Settings
from local import credentials, environment, install, places, process, redis_users, stack
from local.environment import lines
from local.places import Port
from local.ports import taken
from local.process import Launch, Running
from local.server import Server

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
STUBBORN = (sys.executable, "-c", f"{DEAF}; time.sleep(60)")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of the test's own; whatever it started is ended."""
    for module in (places, process):
        monkeypatch.setattr(module, "state", lambda: tmp_path)
    yield tmp_path
    process.stop("sleeper", SIGTERM, 0)


@pytest.fixture
def secrets_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(credentials, "SECRETS", tmp_path / "secrets")
    credentials.make_secrets()
    return tmp_path / "secrets"


def start_sleeper(folder: Path, argv: tuple[str, ...] = SLEEPER) -> Running:
    return process.spawn("sleeper", Launch(argv, cwd=folder), {"HEADWATER_PORT_X": 1})


# --- ports


def test_a_port_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    port = Port("EXAMPLE", 1234)
    assert port.number == 1234
    monkeypatch.setenv("HEADWATER_PORT_EXAMPLE", "4321")
    assert port.number == 4321


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "1 2"])
def test_what_is_not_a_port_is_refused_with_the_variable_named(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HEADWATER_PORT_EXAMPLE", text)
    with pytest.raises(SetupError, match="HEADWATER_PORT_EXAMPLE"):
        _ = Port("EXAMPLE", 1234).number


def test_a_taken_port_is_told_with_its_server_its_holder_and_the_remedy() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        number = holder.getsockname()[1]
        text = str(taken("kafka", Port("EXAMPLE", number)))
    assert f"port {number}, wanted by kafka" in text
    assert f"process {os.getpid()} (" in text
    assert "HEADWATER_PORT_EXAMPLE=<port>" in text


def test_a_port_that_was_just_released_is_free() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        number = holder.getsockname()[1]
    assert taken("kafka", Port("EXAMPLE", number)) is None


# --- processes


def test_a_started_process_is_found_again_with_its_ports(state: Path) -> None:
    running = start_sleeper(state)
    assert process.recall("sleeper") == running
    assert running.ports == {"HEADWATER_PORT_X": 1}


def test_a_recycled_pid_is_not_ours(state: Path) -> None:
    other = subprocess.Popen(SLEEPER)
    try:
        record = {"pid": other.pid, "mark": "earlier-boot:1", "ports": {}}
        process.pid_file("sleeper").write_text(json.dumps(record), encoding="utf-8")
        assert process.recall("sleeper") is None
        process.stop("sleeper", SIGTERM, 1)
        assert other.poll() is None, "a stranger's process was ended"
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("text", ["", "123", "{}", "[1, 2]"])
def test_a_broken_pid_file_means_not_running(state: Path, text: str) -> None:
    process.pid_file("sleeper").write_text(text, encoding="utf-8")
    assert process.recall("sleeper") is None


def test_stop_ends_the_process_and_forgets_it(state: Path) -> None:
    running = start_sleeper(state)
    assert process.stop("sleeper", SIGTERM, 5) == 1
    assert not running.alive
    assert not process.pid_file("sleeper").exists()


def test_stop_kills_what_does_not_listen(state: Path) -> None:
    running = start_sleeper(state, STUBBORN)
    log = places.log_path("sleeper")
    while "deaf" not in log.read_text(encoding="utf-8"):
        assert running.alive
    process.stop("sleeper", SIGTERM, 0.2)
    assert not running.alive


def test_children_of_a_killed_parent_are_found_and_ended(state: Path) -> None:
    spawn_child = f"import subprocess, time; subprocess.Popen({list(SLEEPER)!r}); time.sleep(60)"
    running = start_sleeper(state, (sys.executable, "-c", spawn_child))
    while len(process.leftovers("sleeper")) < 2:
        assert running.alive
    os.kill(running.pid, 9)
    while running.alive:
        pass
    (child,) = process.leftovers("sleeper")
    assert process.stop("sleeper", SIGTERM, 5) == 1
    assert not child.alive


def test_a_server_does_not_inherit_the_callers_settings(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_POSTGRES__PASSWORD", "private")
    running = start_sleeper(state)
    assert b"private" not in Path(f"/proc/{running.pid}/environ").read_bytes()


# --- lines for the shell


@pytest.mark.parametrize("value", ["plain", "two words", "it's", "$(touch x)", "a;b", "", "ü\n2"])
def test_env_lines_give_back_exactly_the_value_when_evaluated(value: str) -> None:
    (line,) = lines({"HEADWATER_X": value})
    script = f'{line}\nprintf %s "$HEADWATER_X"'
    done = subprocess.run(("/bin/sh", "-c", script), capture_output=True, text=True, check=True)
    assert done.stdout == value
    assert shlex.split(line) == [f"HEADWATER_X={value}"]


def test_no_printed_name_is_one_that_the_settings_read(
    secrets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "load_settings", lambda _: SimpleNamespace(lake_root="/lake"))
    names = environment.environment()
    assert not [name for name in names if "__" in name or not name.startswith("HEADWATER_")]
    assert not {"HEADWATER_ENV", "HEADWATER_LAKE"} & set(names)
    assert not {f"HEADWATER_{section.upper()}" for section in Settings.model_fields} & set(names)


# --- secrets


def test_secrets_are_made_once_and_only_their_owner_may_read_them(secrets_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets_folder.iterdir()}
    credentials.make_secrets()
    assert {path.name: path.read_bytes() for path in secrets_folder.iterdir()} == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets_folder.iterdir()} == {0o600}
    assert stat.S_IMODE(secrets_folder.stat().st_mode) == 0o700


def test_the_key_list_knows_the_demo_keys_by_digest_only(secrets_folder: Path) -> None:
    entries = json.loads((secrets_folder / "api-keys.json").read_text(encoding="utf-8"))
    assert [entry["tenant_id"] for entry in entries] == ["acme", "globex"]
    key = credentials.read_secret("api-key-demo")
    assert key.startswith("hw_demo_")
    assert key.split("_", 2)[2] not in json.dumps(entries)


def test_a_token_is_accepted_by_the_published_key_set(secrets_folder: Path) -> None:
    text = credentials.make_token("acme", "ingest:write jobs:read", "https://issuer", "headwater-api")
    keys = json.loads((secrets_folder / "jwks.json").read_text(encoding="utf-8"))
    claims = jwt.decode(text, KeySet.import_key_set(keys), algorithms=["ES256"]).claims
    assert claims["tenant_id"] == "acme"
    assert claims["scope"] == "ingest:write jobs:read"
    assert claims["exp"] - claims["iat"] == 3600
    assert all("d" not in key for key in keys["keys"])


# --- installation


def test_a_half_made_folder_is_made_again_and_a_whole_one_is_left(state: Path) -> None:
    made: list[Path] = []
    folder = state / "dist" / "server-1"
    with pytest.raises(SetupError):
        install.install_once(folder, "digest", lambda _: (_ for _ in ()).throw(SetupError("no network")))
    assert not folder.exists()
    for digest in ("digest", "digest", "another"):
        install.install_once(folder, digest, made.append)
    assert len(made) == 2


# --- a stack that runs already


def test_a_server_that_runs_is_given_users_that_are_new_and_is_not_started_again(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[str] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setenv("HEADWATER_PORT_X", str(listening.getsockname()[1]))
        server = Server(
            name="sleeper",
            ports=(Port("X", 1),),
            install=lambda: None,
            launch=lambda: Launch(SLEEPER, cwd=state),
            answers=lambda: True,
            settle=lambda: settled.append("settled"),
        )
        server.start()
        before = server.running
        monkeypatch.setattr(stack, "SERVERS", {"sleeper": server})
        monkeypatch.setattr(stack, "state", lambda: state)
        monkeypatch.setattr(stack, "make_secrets", lambda: None)
        stack.up()
        assert server.running == before
        assert settled == ["settled", "settled"]


def test_each_user_of_redis_is_one_line_without_its_password(secrets_folder: Path) -> None:
    for user in redis_users.USERS:
        assert "\n" not in user.line() and user.line().startswith(f"user {user.name} reset on #")
        assert credentials.read_secret(user.secret) not in user.line()
        assert "+@" not in user.line() and "~*" not in user.line().split()
