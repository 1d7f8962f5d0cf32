"""compact: small files of silver and gold on a local lake, put together while other queries go on.

A batch appends a file to a table, or to each day that it has rows of, some ten thousand files a day; builds
read all files of a day, and whoever commits looks at all there are. Bronze is left alone: how its files
follow each other says what refine has read (docs/operations.md). Safe to end at any point: a file takes the
place of others in one commit, or does not.
"""

from collections.abc import Sequence

from headwater.log import logger
from headwater.settings import Settings
from headwater.tables import compact, exists
from jobs import build_crm
from jobs.build import BUILT, silver_of
from jobs.queries import Context
from schemas.contract import domain_contracts
from schemas.tables import Table, silver_tables
from transformations.kpi.registry import KPIS

_log = logger(__name__)
AT_LEAST = 32  # files of a table, or of a day of it
# What is put together is soon no longer small: the files that it replaces stay on the disk.
SMALL_BYTES = 1 << 20
_EVERY_S = 60.0


class Compact:
    """The loop compact.<domain>."""

    every_s = _EVERY_S

    def __init__(self, context: Context, domain: str) -> None:
        self.domain = domain
        self.name = f"compact.{domain}"
        self._context = context
        self._tables: list[Table] = []

    def prepare(self) -> None:
        """Find out which tables the domain has."""
        contracts = domain_contracts(self.domain).values()
        silver = silver_tables(sorted(contract.stream for contract in contracts))
        gold = [kpi.gold for name, kpi in KPIS.items() if BUILT[silver_of(name)] in silver]
        more = build_crm.KEYS if self.domain == build_crm.DOMAIN else ()
        self._tables = [*silver, *gold, *more]

    def step(self) -> int:
        """Look at every table that is there. Never says that more is due: new files have to come first."""
        spark, settings = self._context.spark, self._context.settings
        there = [table for table in self._tables if exists(spark, settings, table.full_name)]
        compact_tables(settings, there, SMALL_BYTES, AT_LEAST)
        return 0

    def close(self) -> None:
        """Nothing is held."""


def compact_tables(settings: Settings, tables: Sequence[Table], small_bytes: int, at_least: int) -> None:
    """Compact those that have so many small files. Raises nothing: others go on without, if more slowly."""
    for table in tables:
        try:
            removed = compact(settings, table.full_name, small_bytes, at_least)
        except Exception as fault:  # delta-rs's; its text may quote a row
            _log.warning("not_compacted", table=table.full_name, why=type(fault).__name__)
            continue
        if removed:
            _log.info("compacted", table=table.full_name, files=removed)
