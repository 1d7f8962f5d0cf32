"""Two locks: one running instance per (job, domain), and short turns around commits to a Delta table.

Both are `flock`s on files under <lake>/_locks, so a killed process leaves nothing behind. On an object store
the commit itself is guarded by the LogStore, and the instance lock by the scheduler that starts one driver.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater.errors import LockedError


@contextmanager
def instance_lock(lake: str, name: str) -> Iterator[None]:
    """Hold the lock of one job and domain while the block runs. Raises LockedError when another has it."""
    if "://" in lake:
        yield
        return
    path = _path(lake, name)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
            raise LockedError(
                f"{name} runs already (pid {holder}); stop it first, or leave it to its work"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def commit_lock(lake: str, table: str) -> Iterator[None]:
    """Wait for, then hold, the turn to commit to one table."""
    if "://" in lake:
        yield
        return
    descriptor = os.open(_path(lake, f"commit.{table}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def forget_lock(lake: str, table: str) -> None:
    """Delete the file of a commit lock that nobody will want again."""
    _path(lake, f"commit.{table}").unlink(missing_ok=True)


def _path(lake: str, name: str) -> Path:
    folder = Path(lake) / "_locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"
