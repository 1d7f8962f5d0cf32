"""The queue against a real server: one worker a job, whoever dies and whenever."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from headwater.errors import LostError
from headwater.settings import Settings
from sources.import_errors import RowError, write_errors
from sources.import_jobs import COMPLETED, Counts
from sources.import_queue import Beat, Claim, ImportQueue
from tests.integration.api_server import ROOT
from tests.integration.broker import eventually
from tests.integration.uploads.conftest import Worker
from tests.integration.uploads.harness import ask, new_job

SOME = Counts(rows_read=10, rows_valid=8, rows_invalid=2)
# A worker that claims, writes an error in a transaction, says so, and is killed before it commits.
DOOMED = """
import sys, time
from sources.import_errors import RowError, write_errors
from sources.import_queue import ImportQueue
from tests.integration.outbox_harness import settings_of
queue = ImportQueue(settings_of(sys.argv[1]), "doomed")
claim = queue.claim()
with queue.holding(claim) as connection:
    write_errors(connection, claim.job.id, [RowError(1, None, "ragged", "has 3 fields", "a,b,c")], 10, 100)
    print("writing", flush=True)
    time.sleep(60)
"""


def claimed(queue: ImportQueue) -> Claim:
    """The next job."""
    found = queue.claim()
    assert found
    return found


def come(database: str) -> None:
    """All that is waited for has come: every lease ran out, every pause is over."""
    ask(database, "UPDATE ingestion_jobs SET next_attempt_at = now()")
    ask(database, "UPDATE ingestion_jobs SET lease_until = now() WHERE lease_until IS NOT NULL")


def state(database: str, *columns: str) -> list[tuple[object, ...]]:
    return ask(database, f"SELECT {', '.join(columns)} FROM ingestion_jobs ORDER BY created_at")  # noqa: S608 - own


def test_jobs_are_claimed_in_the_order_in_which_they_were_entered(worker: Worker) -> None:
    one, two = worker("one"), worker("two")
    entered = [new_job() for _ in range(3)]
    for new in entered:
        one.enter(new)
    assert [claimed(queue).job.id for queue in (two, one, two)] == [new.id for new in entered]
    assert one.claim() is None


def test_forty_jobs_are_each_given_to_one_of_eight_workers_at_once(worker: Worker) -> None:
    queues = [worker(f"w{number}") for number in range(8)]
    entered = [new_job() for _ in range(40)]
    for new in entered:
        queues[0].enter(new)

    def drain(queue: ImportQueue) -> list[Claim]:
        found = []
        while claim := queue.claim():
            assert queue.finish(claim, COMPLETED, SOME, {})
            found.append(claim)
        return found

    with ThreadPoolExecutor(8) as pool:
        done = [claim for found in pool.map(drain, queues) for claim in found]
    assert len(done) == 40
    assert {claim.job.id for claim in done} == {new.id for new in entered}


def test_a_job_can_be_asked_for_by_its_id(worker: Worker) -> None:
    queue, first, second = worker(), new_job(), new_job()
    queue.enter(first)
    queue.enter(second)
    found = queue.claim(only=second.id)
    assert found
    assert found.job.id == second.id
    assert queue.claim(only=second.id) is None


def test_a_heartbeat_keeps_a_job_beyond_its_lease_and_shows_how_far_it_is(
    worker: Worker, database: str
) -> None:
    owner, other = worker("owner"), worker("other")
    owner.enter(new_job())
    claim = claimed(owner)
    come(database)
    assert owner.beat(claim, SOME) is Beat.KEPT
    assert other.claim() is None
    assert state(database, "rows_read", "rows_valid", "rows_invalid") == [(10, 8, 2)]
    assert state(database, "lease_until - now() > interval '20 s'") == [(True,)]


def test_a_silent_workers_job_is_taken_up_and_begins_from_zero(worker: Worker, database: str) -> None:
    silent, other = worker("silent"), worker("other")
    silent.enter(new_job())
    silent.beat(claimed(silent), SOME)
    assert other.claim() is None
    come(database)
    again = claimed(other)
    assert (again.attempt, again.job.status) == (2, "PROCESSING")
    assert state(database, "worker", "rows_read") == [("other", 0)]


def test_a_worker_that_lost_its_job_can_do_nothing_to_it(worker: Worker, database: str) -> None:
    stale, other = worker("stale"), worker("other")
    stale.enter(new_job())
    lost = claimed(stale)
    come(database)
    claimed(other)
    before = state(database, "status", "attempts", "lease_until", "rows_read", "error", "worker")
    assert stale.beat(lost, SOME) is Beat.LOST
    assert stale.finish(lost, COMPLETED, SOME, {}) is False
    assert stale.fail(lost, "storage_away", SOME) is None
    assert stale.fail(lost, "no_such_file", SOME, final=True) is None
    assert stale.cancelled(lost, SOME) is False
    assert stale.release(lost) is None
    with pytest.raises(LostError), stale.holding(lost):
        raise AssertionError("the block must not run")
    assert state(database, "status", "attempts", "lease_until", "rows_read", "error", "worker") == before


def test_nobody_takes_a_job_while_its_worker_writes_even_if_the_lease_ran_out(
    worker: Worker, database: str
) -> None:
    slow, beating, other = worker("slow"), worker("slow"), worker("other")
    slow.enter(new_job())
    claim = claimed(slow)
    with slow.holding(claim) as connection:
        come(database)
        assert other.claim() is None
        assert beating.beat(claim, SOME) is Beat.KEPT  # a heartbeat does not wait for the transaction
        assert slow.finish(claim, COMPLETED, SOME, {"parse": 1.5}, within=connection)
    assert other.claim() is None


def test_a_transaction_that_fails_takes_the_end_of_the_job_back(worker: Worker, database: str) -> None:
    queue = worker()
    queue.enter(new_job())
    claim = claimed(queue)
    with pytest.raises(RuntimeError, match="disk"), queue.holding(claim) as connection:
        queue.finish(claim, COMPLETED, SOME, {}, within=connection)
        raise RuntimeError("disk")
    assert state(database, "status") == [("PROCESSING",)]
    come(database)
    assert claimed(worker("other")).attempt == 2


def test_a_worker_that_is_killed_while_it_writes_leaves_nothing_and_its_job_to_others(
    worker: Worker, settings: Settings, database: str
) -> None:
    queue = worker()
    queue.enter(new_job())
    doomed = subprocess.Popen(
        [sys.executable, "-c", DOOMED, database], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert doomed.stdout
    assert doomed.stdout.readline() == "writing\n"
    come(database)
    assert queue.claim() is None
    doomed.kill()
    doomed.wait()
    doomed.stdout.close()
    assert eventually(lambda: (claim := queue.claim()) is not None and claim.attempt == 2, "taken up")
    assert ask(database, "SELECT count(*) FROM validation_errors") == [(0,)]


def test_a_failed_attempt_waits_longer_each_time_and_the_last_ends_the_job(
    worker: Worker, database: str
) -> None:
    queue = worker()
    queue.enter(new_job())
    waits = []
    for _ in range(2):
        assert queue.fail(claimed(queue), "storage_away", SOME) == "PENDING"
        assert queue.claim() is None
        waits.append(ask(database, "SELECT next_attempt_at - now() FROM ingestion_jobs")[0][0])
        come(database)
    assert timedelta(seconds=3) < waits[0] < timedelta(seconds=7) < waits[1] < timedelta(seconds=13)
    assert queue.fail(claimed(queue), "storage_away", SOME) == "FAILED"
    assert state(database, "status", "attempts", "error", "rows_invalid") == [
        ("FAILED", 3, "storage_away", 2)
    ]
    assert queue.claim() is None


def test_a_fault_that_no_retry_mends_ends_the_job_at_once(worker: Worker, database: str) -> None:
    queue = worker()
    queue.enter(new_job())
    assert queue.fail(claimed(queue), "too_many_invalid", SOME, final=True) == "FAILED"
    assert state(database, "status", "attempts") == [("FAILED", 1)]


def test_a_file_that_kills_its_workers_is_given_up_after_the_last_attempt(
    worker: Worker, database: str
) -> None:
    queue = worker()
    queue.enter(new_job())
    for attempt in (1, 2, 3):
        assert claimed(queue).attempt == attempt
        come(database)
    assert queue.claim() is None
    assert state(database, "status", "attempts", "error") == [("FAILED", 3, "worker_lost")]


def test_a_job_that_is_given_back_has_lost_no_attempt(worker: Worker, database: str) -> None:
    queue = worker()
    queue.enter(new_job())
    for _ in range(5):
        assert queue.release(claimed(queue)) == "PENDING"
    for status in ("PENDING", "PENDING", "FAILED"):
        assert queue.fail(claimed(queue), "storage_away", SOME) == status
        come(database)
    assert state(database, "attempts", "released") == [(8, 5)]


@pytest.mark.parametrize("end", ["told", "released", "failed", "killed"])
def test_a_running_job_whose_end_is_wanted_ends_as_cancelled_whatever_its_worker_does(
    worker: Worker, database: str, end: str
) -> None:
    queue = worker()
    queue.enter(new_job())
    claim = claimed(queue)
    ask(database, "UPDATE ingestion_jobs SET cancel_requested = true")
    assert queue.beat(claim, SOME) is Beat.CANCEL
    if end == "told":
        assert queue.cancelled(claim, SOME)
    elif end == "released":
        assert queue.release(claim) == "CANCELLED"
    elif end == "failed":
        assert queue.fail(claim, "storage_away", SOME) == "CANCELLED"
    else:
        come(database)
        assert queue.claim() is None
    assert state(database, "status") == [("CANCELLED",)]
    assert queue.claim() is None


@pytest.mark.parametrize("end", ["told", "released", "failed", "killed"])
def test_a_job_that_may_have_rows_in_delta_is_done_whoever_wants_its_end_and_however_often_it_fails(
    worker: Worker, database: str, end: str
) -> None:
    queue = worker()
    queue.enter(new_job())
    claim = claimed(queue)
    queue.appending(claim)
    ask(database, "UPDATE ingestion_jobs SET cancel_requested = true, attempts = 7")
    claim = replace(claim, job=replace(claim.job, attempts=7))
    assert queue.beat(claim, SOME) is Beat.KEPT
    if end == "told":
        assert not queue.cancelled(claim, SOME)
    elif end == "released":
        assert queue.release(claim) == "PENDING"
    elif end == "failed":
        assert queue.fail(claim, "unstorable", SOME, final=True) == "PENDING"
    come(database)
    if end in ("told", "killed"):  # it may be what kills its workers
        assert queue.claim() is None
        assert state(database, "status", "error") == [("PENDING", "worker_lost")]
        assert state(database, "next_attempt_at > now() + interval '1 min'") == [(True,)]
        come(database)
    again = claimed(queue)
    assert (again.attempt, again.job.appending_at is not None) == (8, True)
    assert queue.finish(again, COMPLETED, SOME, {})
    assert queue.claim() is None


def test_only_the_owner_of_a_job_says_that_it_may_have_rows_in_delta(worker: Worker, database: str) -> None:
    stale, other = worker("stale"), worker("other")
    stale.enter(new_job())
    lost = claimed(stale)
    come(database)
    claimed(other)
    with pytest.raises(LostError):
        stale.appending(lost)
    assert state(database, "appending_at") == [(None,)]


def test_what_an_attempt_made_is_nobodys_when_it_is_over(worker: Worker, database: str) -> None:
    queue = worker()
    names = []
    for _ in range(3):
        queue.enter(new_job())
        names.append(claimed(queue).name)
    over, taken_up, running = names
    ask(database, "UPDATE ingestion_jobs SET attempts = 2 WHERE id = %s", taken_up.split("_")[1])
    ended = "status = 'FAILED', finished_at = now(), lease_until = NULL"
    ask(database, f"UPDATE ingestion_jobs SET {ended} WHERE id = %s", over.split("_")[1])  # noqa: S608 - own
    unknown, foreign = f"import_{'0' * 32}_1", "import_of_mine"
    assert queue.orphans([*names, unknown, foreign]) == {over, taken_up, unknown}
    assert queue.orphans([running, foreign]) == set()


def test_keys_that_no_job_has_are_nobodys(worker: Worker) -> None:
    queue, new = worker(), new_job()
    queue.enter(new)
    assert queue.nobodys([new.storage_key, "2026-01-01/other"]) == {"2026-01-01/other"}


@pytest.mark.parametrize(
    ("status", "stands"),
    [("COMPLETED", True), ("COMPLETED_WITH_ERRORS", False), ("FAILED", False), ("CANCELLED", False)],
)
def test_only_a_completed_job_stands_for_its_file(worker: Worker, status: str, stands: bool) -> None:
    queue, first = worker(), new_job()
    queue.enter(first)
    assert queue.same_file(first) is None  # it waits
    claim = claimed(queue)
    assert queue.same_file(first) is None  # it runs
    queue.finish(claim, status, SOME, {})
    found = queue.same_file(new_job())
    assert (found.id if found else None) == (first.id if stands else None)


@pytest.mark.parametrize(
    "other",
    [
        {"tenant_id": "globex"},
        {"dataset": "orders"},
        {"sha256": "0" * 64},
        {"options": {"encoding": "cp1252"}},
    ],
)
def test_another_tenants_file_or_one_that_is_read_otherwise_is_not_the_same(
    worker: Worker, other: dict[str, object]
) -> None:
    queue = worker()
    queue.enter(new_job())
    queue.finish(claimed(queue), COMPLETED, SOME, {})
    assert queue.same_file(new_job()) is not None
    assert queue.same_file(new_job(**other)) is None


def test_failed_jobs_wait_for_their_dead_letter(worker: Worker) -> None:
    queue, new = worker(), new_job()
    queue.enter(new)
    queue.fail(claimed(queue), "damaged", SOME, final=True)
    assert [job.id for job in queue.unlettered(10)] == [new.id]
    queue.lettered([new.id])
    assert queue.unlettered(10) == []


def test_errors_of_an_attempt_replace_those_of_the_one_before_and_are_cut_to_what_is_kept(
    worker: Worker, database: str
) -> None:
    queue, new = worker(), new_job()
    queue.enter(new)
    claim = claimed(queue)
    old = [RowError(7, "name", "missing_required", "is missing", "7,")]
    nasty = [
        RowError(line, "c" * 300, "nul_character", "m" * 600, "a\0\ud800b" + "x" * 50) for line in (1, 2, 3)
    ]
    for errors in (old, nasty):
        with queue.holding(claim) as connection:
            written = write_errors(connection, new.id, errors, most=2, max_raw_row=6)
    assert written == 2
    found = ask(
        database,
        "SELECT line, length(column_name), length(message), raw_row FROM validation_errors ORDER BY id",
    )
    assert found == [(line, 255, 500, "a\ufffd\ufffdbxx") for line in (1, 2)]
