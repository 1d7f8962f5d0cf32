"""bronze files → silver.leads and ops.dead_letters in one process: Polars, with delta-rs to write.

The rules are read from the contract, as those of refine are: types, required fields, lengths, patterns, event
time, consent, unreadable phones and addresses, campaigns; then the first of each key, in the batch and of all
that were seen. What only a library knows is asked by the project's own functions, once a distinct value.

Left out: the ledger, the marks that let a batch be written again, keys that outlive the process or leave the
window; unknown fields; consent refused in what is no JSON; depth other than by the count of brackets; of dead
letters the id, the fingerprint and the headers. A boolean or an object of another type would end it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from headwater.identity import event_id
from schemas.contract import Field
from schemas.envelope import to_json
from schemas.tables import DEAD_LETTERS, LEADS, LETTER_PAYLOAD_BYTES, Table
from tests.builders import LEAD
from tests.perf.peer_rules import TENANT, TIME, judged, reasons
from transformations.enrich import agent_of, e164, valid_ip
from transformations.validate import told
from transformations.values import campaign

KEY = [TENANT, *LEAD.dedupe_key]
PLACE = ("partition", "offset")
UNREADABLE = {"/payload/phone": e164, "/context/ip_address": valid_ip}
_OFFSETS = 1 << 20  # headwater.identity.row_version


class Counts(NamedTuple):
    """What became of a batch's records."""

    silver: int
    duplicate: int
    dead: int
    no_consent: int


class PolarsRefine:
    """The peer, and the keys that it has seen. The tables of its lake are there already."""

    def __init__(self, lake: Path) -> None:
        self._lake = lake
        self._seen = pl.DataFrame(schema=dict.fromkeys(KEY, pl.String))

    def batch(self, files: Sequence[Path], topic: str) -> Counts:
        """Take these files of bronze, which are of one topic, through to both tables."""
        now = datetime.now(UTC)
        columns = ["value", *PLACE, "ingested_at"]
        records = pl.read_parquet(list(files), columns=columns, hive_partitioning=False)
        outcomes = judged(records)
        sound = outcomes.filter(outcome="silver")
        fresh = self._fresh(sound)
        self._append(LEADS, _silver(fresh, topic, now).to_arrow(compat_level=pl.CompatLevel.oldest()))
        dead = outcomes.filter(outcome="dead")
        self._append(DEAD_LETTERS, _letters(dead, topic, now, self._schema(DEAD_LETTERS)))
        gone = len(outcomes) - len(sound) - len(dead)
        return Counts(len(fresh), len(sound) - len(fresh), len(dead), gone)

    def _fresh(self, sound: pl.DataFrame) -> pl.DataFrame:
        """The first of each key that no batch had yet; the larger side of a join is only gone through."""
        first = sound.unique(KEY, keep="first", maintain_order=True)
        known = self._seen.join(first.select(KEY), on=KEY, how="semi")
        fresh = first.join(known, on=KEY, how="anti", maintain_order="left")
        self._seen = pl.concat([self._seen, fresh.select(KEY)])
        return fresh

    def _append(self, table: Table, rows: pa.Table) -> None:
        schema = self._schema(table)
        write_deltalake(self._path(table), rows.select(schema.names).cast(schema), mode="append")

    def _schema(self, table: Table) -> pa.Schema:
        return pa.schema(DeltaTable(self._path(table)).schema().to_arrow())

    def _path(self, table: Table) -> str:
        return str(self._lake / table.layer / table.name)


def _silver(leads: pl.DataFrame, topic: str, now: datetime) -> pl.DataFrame:
    said = {leaf.pointer: leads[leaf.pointer] for leaf in LEAD.leaves}
    made = {_column(leaf): said[leaf.pointer] for leaf in LEAD.leaves}
    whose = zip(*[leads[part].to_list() for part in KEY], strict=True)
    made["id"] = pl.Series([event_id(tenant, key) for tenant, key in whose], dtype=pl.String)
    made["event_id"] = made["event_id"].str.to_lowercase().fill_null(made["id"])
    made["email"] = made["email"].str.to_lowercase()
    for pointer, read in UNREADABLE.items():
        made[pointer.rsplit("/", 1)[-1]] = _each(read, said[pointer])
    for part, column in enumerate(("device", "browser", "os")):
        made[column] = _each(partial(_agent, part), made["user_agent"])
    for name in ("source", "medium", "campaign", "content", "term"):
        tags = _each(partial(_tag, name), said["/context/page_url"])
        made[f"utm_{name}"] = made[f"utm_{name}"].fill_null(tags)
    return pl.DataFrame(made).with_columns(_lineage(leads, topic, now))


def _column(leaf: Field) -> str:
    return f"utm_{leaf.name}" if "utm" in leaf.path else leaf.name


def _lineage(leads: pl.DataFrame, topic: str, now: datetime) -> list[pl.Series | pl.Expr]:
    moments, offsets = leads[TIME].dt.epoch("us"), leads["offset"]
    unread = [
        _each(partial(_unread, *field), leads[field[0]]).alias(field[0]) for field in UNREADABLE.items()
    ]
    lost = pl.DataFrame(unread).select(lost=pl.concat_str(pl.all(), separator=",", ignore_nulls=True))
    extras = lost.select(extras=pl.when(pl.col("lost") != "").then(pl.format("{{{}}}", "lost")))
    return [
        (moments // 1000 * _OFFSETS + offsets % _OFFSETS).alias("row_version"),
        leads[TIME].alias("event_time"),
        leads["ingested_at"],
        pl.lit(now).dt.cast_time_unit("us").alias("refined_at"),
        pl.lit(topic).alias("source_topic"),
        *[leads[part].alias(f"source_{part}") for part in PLACE],
        *[pl.lit(None, pl.String).alias(column) for column in ("geo_country", "geo_city")],
        extras["extras"],
    ]


def _unread(pointer: str, read: Callable[[str], str | None], text: str) -> str | None:
    return None if read(text) else f"{to_json(pointer)}:{to_json(text)}"


def _agent(part: int, text: str) -> str | None:
    return agent_of(text)[part]


def _tag(name: str, page: str) -> str | None:
    return campaign(page).get(name)


def _each(function: Callable[[str], str | None], column: pl.Series) -> pl.Series:
    """What the function gives for each text, asked once for each distinct one; null for null."""
    distinct = column.drop_nulls().unique()
    found = pl.Series([function(text) for text in distinct], dtype=pl.String)
    return column.replace_strict(distinct, found, default=None, return_dtype=pl.String)


def _letters(dead: pl.DataFrame, topic: str, now: datetime, schema: pa.Schema) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "stream": LEAD.stream,
            "stage": "decode" if fault else "validate",
            "tenant_id": tenant,
            "reasons": list(map(told, why)),
            "payload": value and value[:LETTER_PAYLOAD_BYTES],
            "source_topic": topic,
            "source_partition": partition,
            "source_offset": offset,
            "event_time": moment,
            "failed_at": now,
            "contract_version": LEAD.version,
            "status": "new",
        }
        for why, (fault, tenant, value, partition, offset, moment) in zip(
            reasons(dead), dead.select("fault", TENANT, "value", *PLACE, TIME).iter_rows(), strict=True
        )
    ]
    return pa.Table.from_pylist(rows, schema=schema)
