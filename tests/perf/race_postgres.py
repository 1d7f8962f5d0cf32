"""The race to PostgreSQL: a cached batch of leads by PostgresSink, a CSV file of them by psql's \\copy, the
rows in memory by psycopg's executemany of an upsert.

All write the same table with the same indexes, in a database of the race's own. Ours is the sink as it is
delivered by: it upserts by key from a staging table, and enters every row into the outbox in the same
transaction; it runs without an outbox as well. \\copy does neither, and a row that is there already would
fail it; executemany does the first.
Before each turn the tables are emptied and the server's log is written out, so that each begins alike.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from pyarrow.csv import WriteOptions, write_csv
from pyspark.sql import DataFrame

from headwater.settings import Settings
from local.postgres import dsn
from sinks.postgres import LEAD_COLUMNS, PostgresSink
from sinks.registry import SINKS
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.perf.figures import OURS, Figure, interleaved, proven, rate
from tests.perf.peer_leads import NEWER, cached_leads, newer, plain
from tests.perf.peer_postgres import copy_file, upsert

COPY, UPSERT = "psql \\copy", "executemany"
BARE = "ours, no outbox"
_Work = Callable[[], int]
_Runs = Mapping[str, tuple[float, ...]]


def race(rows: int, rounds: int) -> list[Figure]:
    """Rows a second into an empty table, beside \\copy and beside upserts; and beside upserts where an older
    version of every row is there."""
    with cached_leads(rows) as leads, migrated_database() as database, TemporaryDirectory() as folder:
        settings = settings_of(database)
        file = Path(folder) / "leads.csv"
        write_csv(leads.select(*LEAD_COLUMNS).toArrow(), file, WriteOptions(include_header=False))
        into_empty = partial(_measured, database, rows)
        into_full = partial(_measured, database, rows, fill=partial(copy_file, settings.postgres, file))
        inserts = _taking_turns(rounds, into_empty, _inserting(settings, leads, file))
        updates = _taking_turns(rounds, into_full, _updating(settings, newer(leads)))
    return [
        *_figures("rows/s", inserts, OURS, COPY),
        Figure("postgres", OURS, "rows/s, no outbox", inserts[BARE]),
        *_figures("rows/s, no outbox", inserts, COPY),
        *_figures("rows/s, upserted", inserts, OURS, UPSERT),
        *_figures("rows/s, all updated", updates, OURS, UPSERT),
    ]


def _inserting(settings: Settings, leads: DataFrame, file: Path) -> dict[str, _Work]:
    sink, rows = SINKS["leads", "postgres"].routes[0].make(settings, "bench"), _tuples(leads)
    sink.setup()
    bare = PostgresSink(settings, "bench")
    return {
        OURS: lambda: sink.write(leads).inserted,
        BARE: lambda: bare.write(leads).inserted,
        COPY: lambda: copy_file(settings.postgres, file),
        UPSERT: lambda: upsert(settings.postgres, rows),
    }


def _updating(settings: Settings, leads: DataFrame) -> dict[str, _Work]:
    sink, rows = SINKS["leads", "postgres"].routes[0].make(settings, "bench"), _tuples(leads)
    sink.setup()
    return {
        OURS: lambda: sink.write(leads).updated,
        UPSERT: lambda: upsert(settings.postgres, rows),
    }


def _taking_turns(rounds: int, turn: Callable[[_Work], float], works: Mapping[str, _Work]) -> _Runs:
    return interleaved(rounds, {name: partial(turn, work) for name, work in works.items()})


def _figures(measure: str, found: _Runs, *contenders: str) -> list[Figure]:
    return [Figure("postgres", name, measure, found[name]) for name in contenders]


def _measured(database: str, rows: int, work: _Work, fill: _Work | None = None) -> float:
    """One turn: rows a second. What the table holds afterwards is counted, in time that is not measured."""
    with psycopg.connect(dsn("postgres", "postgres-superuser", database), autocommit=True) as server:
        server.execute("TRUNCATE leads, lead_outbox")
        if fill:
            proven(rows, fill())
        server.execute("CHECKPOINT")
        speed = rate(rows, work)
        wanted = "submission_type = %s" if fill else "submission_type <> %s"
        query = f"SELECT count(*) FROM leads WHERE {wanted}"  # noqa: S608 - the race's own words
        found = server.execute(query.encode(), (NEWER,)).fetchone()
        proven(rows, found[0] if found else 0)
    return speed


def _tuples(leads: DataFrame) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in plain(leads, LEAD_COLUMNS)]
