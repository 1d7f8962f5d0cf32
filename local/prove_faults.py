"""Taking away and giving back: servers by the launcher's own functions, driver and API as our processes."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headwater.errors import HeadwaterError
from local import process, stack
from local.demo_processes import Child
from local.prove_plan import Fault, How

_WORTH_A_RETRY = 1
# So long after a server was away a job may end of it.
_AFTERMATH_S = 90.0


class Supervised:
    """A process that is killed and started again, each time with a log of its own.

    If it ends by itself with 1, "failed, worth a retry", and that is `excused`, a supervisor would start it
    again, and so it is.
    """

    def __init__(self, name: str, *words: str, excused: Callable[[], bool] = lambda: False) -> None:
        self.name = name
        self.children: list[Child] = []
        self.restarts = 0
        self._words = words
        self._excused = excused
        self._wanted = False
        self._held = threading.Lock()  # by whoever takes it away

    @property
    def child(self) -> Child:
        """The newest."""
        return self.children[-1]

    def start(self) -> None:
        """Begin; back at once."""
        number = len(self.children) + 1
        self.children.append(Child(f"{self.name}-{number}", *self._words, of="prove"))
        self._wanted = True

    def tend(self) -> None:
        """Start it again if it has ended by itself. HeadwaterError unless that is excused."""
        if not self._held.acquire(blocking=False):
            return
        try:
            if not self._wanted:
                return
            if self._fell():
                self.start()
            self.child.check()
        finally:
            self._held.release()

    def stop(self) -> None:
        """Have it end in its own time. HeadwaterError unless it does so with 0, or has fallen before."""
        with self._held:
            self._stop()

    def _stop(self) -> None:
        self._wanted = False
        if self._fell():
            return
        self.child.ask_to_stop()
        if code := self.child.stop():
            raise HeadwaterError(
                f"{self.child.name} was told to stop, and ended with {code}; {self.child.tail()}"
            )

    def _fell(self) -> bool:
        fell = self.child.exit_code == _WORTH_A_RETRY and self._excused()
        self.restarts += fell
        return fell

    @contextmanager
    def away(self, how: How) -> Iterator[None]:
        """Gone while the block runs."""
        with self._held:
            if how is How.KILL:
                self.child.crash()
            else:
                self._stop()
            yield
            self.start()

    def end(self) -> None:
        """Whatever state it is in, nothing of it is left."""
        with self._held:
            self._wanted = False
            if self.children:
                self.child.crash()


class Chaos:
    """The faults of a plan, one after another."""

    def __init__(self, faults: list[Fault], ours: dict[str, Supervised], tell: Callable[[str], None]) -> None:
        self.faults = faults
        self.done: list[Fault] = []
        self._ours = ours
        self._tell = tell
        self._shaken_until = 0.0

    @property
    def shaken(self) -> bool:
        """Whether a server is away, or was a short while ago."""
        return time.monotonic() < self._shaken_until

    def run(self, stopping: threading.Event) -> None:
        """All of them, unless told to stop. Raises what keeps a victim from coming back."""
        began = time.monotonic()
        for fault in self.faults:
            if stopping.wait(max(0.0, began + fault.second - time.monotonic())):
                return
            self._tell(f"{fault.how} {fault.victim}, for {fault.away_s:.1f} s")
            with self._away(fault):
                stopping.wait(fault.away_s)
            self._tell(f"  {fault.victim} is started again")
            self.done.append(fault)

    @contextmanager
    def _away(self, fault: Fault) -> Iterator[None]:
        if fault.victim in self._ours:
            with self._ours[fault.victim].away(fault.how):
                yield
            return
        self._shaken_until = float("inf")
        server = stack.SERVERS[fault.victim]
        if fault.how is How.KILL:
            # The whole family; raises if one survives.
            process.stop(server.name, signal.SIGKILL, 0)
        else:
            server.stop()
        yield
        server.start()
        self._shaken_until = time.monotonic() + _AFTERMATH_S
