"""A look at dead letters in a process of its own, for programs that have other things to do.

While delta-rs waits for an object store no other thread of its process runs, however long that is.
"""

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from headwater.errors import HeadwaterError, TransientError
from headwater.settings import ROOT

TIMEOUT_S = 10.0
T = TypeVar("T")


def apart(ask: Callable[..., T], *told: Any) -> T:
    """What `ask` gives for these. Raises what that raises of ours; TransientError when it takes too long."""
    command, order = [sys.executable, "-m", __name__], pickle.dumps((ask, told))
    try:
        done = subprocess.run(  # noqa: S603 - our own module, nothing of a request in the command
            command, input=order, stdout=subprocess.PIPE, cwd=ROOT, timeout=TIMEOUT_S, check=True
        )
    except subprocess.TimeoutExpired:
        raise TransientError(f"the lake has not answered for {TIMEOUT_S:.0f} s") from None
    except subprocess.CalledProcessError as fault:
        raise TransientError(f"who looks into the lake ended with {fault.returncode}") from None
    refusal, found = pickle.loads(done.stdout)  # noqa: S301 - written by the process that was started here
    if refusal is not None:
        raise refusal
    answer: T = found
    return answer


def main() -> None:
    """An order on stdin, its answer on stdout."""
    ask, told = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - written by who started this process
    answer: tuple[HeadwaterError | None, Any]
    try:
        answer = (None, ask(*told))
    except HeadwaterError as refusal:
        answer = (refusal, None)
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
