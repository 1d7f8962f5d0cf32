"""What does a large upload cost? `python -m tests.perf.uploads [--gib N] [--rounds N] [--import]`

A made CSV file of N GiB, its rows some 1,700 bytes each, goes to POST /upload of a real API over one
connection. Beside it, by turns, what nobody can do with less: the same bytes read, hashed and written in the
same parts to the same disk, and flushed. Prints MB/s of both and the most memory that the API's process held,
as JSON lines. With --import the file is then imported by a worker process with the default heap: seconds of
each step, and the most memory of its process and of its children, of which the JVM is one.
"""

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from headwater.clock import utc_now
from sources.landing.base import new_key, store
from sources.landing.local import LocalLanding
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.uploads.harness import UploadApi, upload_api
from tests.integration.uploads.imports import Office, settings_for
from tests.perf.figures import proven

_HEADER = "number,name,city,opened,text\n"
_WORDS = [
    "stand",
    "offer",
    "Müller",
    "café",
    "line",
    "call",
    "again",
    "plan",
    "March",
    "invoice",
    "street",
    "ok",
]
_BLOCK_ROWS = 500
_MB, _MIB = 1_000_000, 1 << 20


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--gib", type=float, default=2.0)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--import", action="store_true", dest="imports")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name, migrated_database() as database:
        folder = Path(name)
        settings = settings_for(settings_of(database), folder)
        path, rows = made_file(folder, asked.gib)
        if asked.rounds:
            with upload_api(folder, settings) as api:
                tell(uploads(api, path, settings.uploads.part_bytes, asked.rounds))
        if asked.imports:
            tell(imported(Office(settings, database), path, rows))


def tell(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


def made_file(folder: Path, gib: float) -> tuple[Path, int]:
    """Rows of a generic dataset, all different, and how many."""
    dice, path, rows = random.Random(1), folder / "made.csv", 0  # noqa: S311 - a made file is no secret
    texts = [" ".join(dice.choices(_WORDS, k=270)) for _ in range(_BLOCK_ROWS)]
    with path.open("w", encoding="utf-8") as file:
        file.write(_HEADER)
        while file.tell() < gib * (1 << 30):
            block = (f"{rows + n},Ada {n},Berlin,2026-03-{n % 28 + 1:02},{t}\n" for n, t in enumerate(texts))
            file.writelines(block)
            rows += _BLOCK_ROWS
    return path, rows


def uploads(api: UploadApi, path: Path, part_bytes: int, rounds: int) -> dict[str, Any]:
    """Medians of MB/s by turns; the first round warms up."""
    megabytes = path.stat().st_size / _MB
    floor = LocalLanding(api.folder / "floor")
    taken: dict[str, list[float]] = {"upload": [], "floor": []}
    assert api.process
    with watched(psutil.Process(api.process.pid)) as most:
        for number in range(rounds + 1):
            seconds = {"upload": _uploaded(api, path), "floor": _stored(floor, path, part_bytes)}
            if number:
                for name, spent in seconds.items():
                    taken[name].append(megabytes / spent)
    speeds = {name: round(statistics.median(found)) for name, found in taken.items()}
    return {
        "megabytes": round(megabytes),
        "mb_a_second": speeds,
        "upload_to_floor": round(speeds["upload"] / speeds["floor"], 2),
        "api_most_mib": round(most["rss"]),
    }


def _uploaded(api: UploadApi, path: Path) -> float:
    began = time.monotonic()
    connection = HTTPConnection("127.0.0.1", api.port, timeout=600, blocksize=_MIB)
    size = path.stat().st_size
    headers = {"X-API-Key": api.key, "Content-Length": str(size)}
    with path.open("rb") as body:
        connection.request("POST", "/upload?dataset=texts&force=true", body, headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
    seconds = time.monotonic() - began
    connection.close()
    proven(202, answer.status)
    kept = [one for one in api.landed if one.name == told["job_id"]]
    proven(size, kept[0].stat().st_size)
    kept[0].unlink()
    return seconds


def _stored(landing: LocalLanding, path: Path, part_bytes: int) -> float:
    began = time.monotonic()
    with path.open("rb") as body:
        stored = store(landing, new_key(uuid.uuid4(), utc_now().date()), body, part_bytes)
    seconds = time.monotonic() - began
    landing.delete(stored.key)
    return seconds


def imported(office: Office, path: Path, rows: int) -> dict[str, Any]:
    """By `jobs import-files --once`, as it is started without any setting."""
    job = office.enter(path, "texts")
    path.unlink()
    began = time.monotonic()
    worker = office.start("import-files", "--once", HEADWATER_SPARK__DRIVER_MEMORY="2g", JAVA_TOOL_OPTIONS="")
    with watched(psutil.Process(worker.process.pid)) as most:
        end = worker.wait(7_200, quiet_s=7_200)
    seconds = time.monotonic() - began
    assert end.code == 0, end.why
    proven(rows, office.counts(job)[4])
    return {
        "rows": rows,
        "seconds": round(seconds),
        "steps": office.job(job, "timings")[0],
        "most_mib": {name: round(size) for name, size in most.items()},
    }


@contextmanager
def watched(process: psutil.Process) -> Iterator[dict[str, float]]:
    """The most MiB that the process (`rss`), and all its children together (`children`), held; looked at
    four times a second."""
    most = {"rss": 0.0, "children": 0.0}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.25):
            try:
                most["rss"] = max(most["rss"], process.memory_info().rss / _MIB)
                children = [child.memory_info().rss for child in process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            most["children"] = max(most["children"], sum(children) / _MIB)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    main()
