# ruff: noqa: S603 - the commands are our own, and no shell reads them
"""Getting the servers' binaries: Maven artefacts listed in pom.xml, kept until their list changes."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from headwater.errors import SetupError
from local.places import ROOT, dist, make_folder, say

PACKAGES = {  # command → Debian package that has it
    "java": "openjdk-17-jre-headless",
    "mvn": "maven",
    "apt-get": "apt",
    "dpkg": "dpkg",
    "cc": "gcc",
}
_STAMP = ".complete"


@cache
def command(name: str) -> str:
    """Absolute path of a command; SetupError names the Debian package when it is missing."""
    if found := shutil.which(name):
        return found
    raise SetupError(f"{name} is not installed: apt-get install {PACKAGES.get(name, name)}")


@cache
def pom() -> str:
    return (ROOT / "pom.xml").read_text(encoding="utf-8")


def version(name: str) -> str:
    """A version property of pom.xml, for example `kafka` → 4.3.1."""
    found = re.search(rf"<{name}\.version>([^<]+)</{name}\.version>", pom())
    if not found:
        raise SetupError(f"pom.xml has no property {name}.version")
    return found[1]


def profile_digest(profile: str) -> str:
    """Changes when the profile's list or any version does, and only then."""
    listed = re.search(rf"<profile>\s*<id>{profile}</id>.*?</profile>", pom(), re.DOTALL)
    properties = re.search(r"<properties>.*?</properties>", pom(), re.DOTALL)
    if not listed or not properties:
        raise SetupError(f"pom.xml has no profile {profile}")
    return hashlib.sha256((properties[0] + listed[0]).encode()).hexdigest()


def install_once(folder: Path, digest: str, fill: Callable[[Path], None]) -> None:
    """Fill the folder unless its stamp says that it is whole; never leaves a half-filled one."""
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return
    say(f"{folder.name}: installing")
    draft = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    fill(make_folder(draft))
    _readable_by_all(draft)
    (draft / _STAMP).write_text(digest, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    say(f"{folder.name}: installed")


def _readable_by_all(folder: Path) -> None:
    """Servers may run as another OS user than the one who installs, whatever the umask."""
    for base, _, files in os.walk(folder):
        Path(base).chmod(0o755)
        for path in (Path(base, name) for name in files):
            if not path.is_symlink():
                path.chmod(0o755 if os.access(path, os.X_OK) else 0o644)


def maven(profile: str, folder: Path, goal: str = "copy-dependencies") -> None:
    """Let Maven put a profile's artefacts into the folder."""
    command("java")
    argv = (command("mvn"), "-q", "-B", "-Dstyle.color=never", "-f", str(ROOT / "pom.xml"), "-P", profile)
    run(*argv, f"dependency:{goal}", f"-DoutputDirectory={folder}", what=f"Maven, profile {profile}")


def maven_archive(profile: str, folder: Path, goal: str = "copy-dependencies") -> None:
    """Let Maven fetch a profile's one archive, and unpack it into the folder."""
    maven(profile, folder, goal)
    (archive,) = folder.iterdir()
    shutil.unpack_archive(archive, folder)
    archive.unlink()
    inner = list(folder.iterdir())
    if len(inner) == 1:  # a single top folder: lift its content
        for entry in list(inner[0].iterdir()):
            entry.rename(folder / entry.name)
        inner[0].rmdir()


def run(*argv: str, what: str, cwd: Path | None = None) -> str:
    """Run to the end; SetupError with the last lines when it fails."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()[-8:]
        raise SetupError(f"{what} failed:\n  " + "\n  ".join(lines))
    return done.stdout


def versioned(server: str, key: str | None = None) -> Path:
    """The folder of this version of a server's binaries; `key` is its property in pom.xml."""
    return dist(f"{server}-{version(key or server)}")
