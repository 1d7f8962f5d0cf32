"""`python -m jobs run` without --once: killed in mid-stream again and again, then told to stop."""

import secrets
import threading
import time
from collections.abc import Callable

from tests.integration.broker import eventually
from tests.integration.jobs_harness import Sent, World, check, dead, good, refused


class Stream:
    """Sends a few records every moment, from another thread, until told to stop."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._enough.wait(0.25):
            self.world.send(self._slice(number))
            number += 1

    def _slice(self, number: int) -> list[Sent]:
        tenant = ("acme", "globex")[number % 2]
        fresh = [good(tenant, f"{number}.{n}") for n in range(5)]
        # An event of a while ago: its first copy may be on the other side of a kill.
        again = [good(tenant, f"{number - 40}.0", "duplicate")] if number >= 40 else []
        return [
            *fresh,
            *again,
            dead(tenant, f"b{number}", "missing_required", payload__email=None),
            refused(tenant, f"n{number}"),
        ]


def test_kills_in_mid_stream_lose_and_double_nothing(
    world: World, prove: Callable[[World], dict[str, int]]
) -> None:
    with Stream(world):
        for _ in range(3):
            job = world.start("run", "--domain", "leads")
            silver_grows(world)
            a_random_moment()
            killed = job.kill()
            assert killed.code == -9, killed.why
        job = world.start("run", "--domain", "leads")
        silver_grows(world)
    wanted = sum(record.outcome == "silver" for record in world.sent.values())
    eventually(lambda: len(world.postgres()) == len(world.documents()) == wanted, "all is delivered", 180)
    job.terminate()
    ended = job.wait()
    assert ended.code == 0, ended.why
    assert ended.status["status"] == "ok"
    check(world)
    prove(world)


def silver_grows(world: World) -> None:
    before = progress(world)
    eventually(lambda: progress(world) > before, "the job writes silver", 180)


def a_random_moment() -> None:
    moment = time.monotonic() + secrets.randbelow(6_000) / 1_000
    eventually(lambda: time.monotonic() > moment, "a random moment", 30)


def progress(world: World) -> int:
    """Commits of silver.leads."""
    return len(list((world.lake / "silver/leads/_delta_log").glob("*.json")))
