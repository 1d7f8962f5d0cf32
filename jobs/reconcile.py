"""reconcile: compare every destination with silver, by key and by a hash of all columns that were delivered.

Reads silver, bronze, ops.dead_letters and the destinations, writes nothing. Silver may hold a key twice (a
duplicate that came after the window): the row with the newest row_version counts, as in the sinks. A row that
a destination refused for ever (stage sink:<system>) is not expected there. The driver holds 32 bytes a key.
"""

import hashlib
import ipaddress
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Context as DecimalContext
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import Any

import psycopg
from elasticsearch import Elasticsearch
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.clock import ISO_MICROSECONDS
from headwater.errors import QualityError, SetupError
from headwater.log import logger
from headwater.settings import Settings
from headwater.tables import read_table
from jobs.audit import PLACE, audit
from jobs.queries import Context
from schemas.contract import Contract, domain_contracts
from schemas.tables import SILVER, bronze
from sinks.postgres import LEAD_COLUMNS
from transformations.columns import document_key

_log = logger(__name__)
_PAGE = 5000
_DIFFERENCES = ("missing", "extra", "different")
_EXACT = DecimalContext(prec=100_000)
# (key's digest, digest of the columns whose text is the same everywhere, texts that must be understood first)
Found = tuple[bytes, bytes, tuple[str | None, ...]]


@dataclass(frozen=True)
class Side:
    """A destination: its columns, silver's text form of one, the columns that have many forms, its rows."""

    columns: tuple[str, ...]
    text: Callable[[str], Column]
    loose: tuple[str, ...]
    rows: Callable[[Settings], Iterator[Found]]


def reconcile(
    context: Context, domain: str, trace: tuple[str, ...] = (), also_audit: bool = False
) -> dict[str, Any]:
    """Counts per destination, and per prefix of `trace`. Raises QualityError naming every difference."""
    sides = {system: side for (found, system), side in SIDES.items() if found == domain}
    if not sides:
        raise SetupError(f"domain {domain!r} has no destination that can be compared")
    (contract,) = domain_contracts(domain).values()
    faults: list[str] = []
    result: dict[str, Any] = {"reconcile": {}}
    with ThreadPoolExecutor(1) as pool:
        # Spark audits while the driver reads the destinations.
        audited = pool.submit(audit, context, domain) if also_audit else None
        if trace:
            result["trace"] = _trace(context, contract, trace)
            _log.info("traced", prefixes=result["trace"])
        for system, side in sorted(sides.items()):
            counts = _compare(_expected(context, contract, system, side), side.rows(context.settings))
            _log.info("reconciled", system=system, **counts)
            result["reconcile"][system] = counts
            faults += [f"{system}: {counts[name]} rows {name}" for name in _DIFFERENCES if counts[name]]
    if audited:
        try:
            result["audit"] = audited.result()
        except QualityError as fault:
            faults.append(str(fault))
    if faults:
        raise QualityError("reconcile: " + "; ".join(faults))
    return result


def _compare(expected: dict[bytes, bytes], found: Iterator[Found]) -> dict[str, int]:
    counts = {"silver": len(expected), "found": 0, "missing": 0, "extra": 0, "different": 0}
    for key, strict, loose in found:
        counts["found"] += 1
        wanted = expected.pop(key, None)
        if wanted is None:
            counts["extra"] += 1
        elif wanted != _digest(strict, loose):
            counts["different"] += 1
    return counts | {"missing": len(expected)}


def _expected(context: Context, contract: Contract, system: str, side: Side) -> dict[bytes, bytes]:
    """Key → digest of silver's newest row per key, without the rows that the destination refused."""
    spark, settings = context.spark, context.settings
    letters = read_table(spark, settings, "ops.dead_letters").where(F.col("stage") == f"sink:{system}")
    refused = letters.select("source_topic", "source_partition", "source_offset")
    silver = read_table(spark, settings, SILVER[contract.stream].full_name)
    kept = silver.join(F.broadcast(refused), refused.columns, "left_anti")
    strict = F.md5(F.concat(*[_framed(side.text(name)) for name in side.columns]))
    row = F.struct(F.unhex(strict).alias("strict"), *side.loose)
    key = F.unhex(F.left(document_key(F.col("tenant_id"), F.col("idempotency_key")), F.lit(32)))
    newest = kept.select(key.alias("key"), "row_version", row.alias("row")).groupBy("key")
    table = newest.agg(F.max_by("row", "row_version").alias("row")).select("key", "row.*").toArrow()
    columns = [table.column(name).to_pylist() for name in side.loose]
    keys, digests = table.column("key").to_pylist(), table.column("strict").to_pylist()
    return {key: _digest(digest, loose) for key, digest, *loose in zip(keys, digests, *columns, strict=True)}


def _framed(text: Column) -> Column:
    """Length in bytes, colon, text; a minus for null: no two lists of values look the same."""
    return F.coalesce(F.concat(F.octet_length(text).cast("string"), F.lit(":"), text), F.lit("-"))


def _digest(strict: bytes, loose: Any) -> bytes:
    texts = [_canonical(text) for text in loose if text is not None] if any(loose) else []
    shape = "".join("-" if text is None else "+" for text in loose)
    return hashlib.blake2b(strict + "\0".join([shape, *texts]).encode(), digest_size=16).digest()


@lru_cache(maxsize=50_000)
def _canonical(text: str) -> str:
    """One form of a JSON object (numbers by value, keys sorted) or of an address."""
    if text.startswith("{"):
        value = json.loads(text, parse_float=_number, parse_int=_number)
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    return str(ipaddress.ip_address(text)) if ":" in text else text


def _number(text: str) -> str:
    value = Decimal(text)
    return f"number {value.normalize(_EXACT) if value else 0}"


# PostgreSQL: the digest is made by the server; metadata and addresses come as text.


def _postgres_text(name: str) -> Column:
    return (F.unix_micros(name) if name == "received_at" else F.col(name)).cast("string")


def _postgres_rows(settings: Settings) -> Iterator[Found]:
    password = settings.postgres.password
    secret = password.get_secret_value() if password else None
    with psycopg.connect(make_conninfo(settings.postgres.dsn, password=secret)) as connection:
        with connection.cursor(name="reconcile") as cursor:
            cursor.itersize = _PAGE
            for key, strict, *loose in cursor.execute(_POSTGRES_QUERY):
                yield key, strict, tuple(loose)


def _in_sql(name: str) -> sql.Composed:
    column = sql.Identifier(name)
    form = "(extract(epoch FROM {0}) * 1000000)::bigint::text" if name == "received_at" else "{0}::text"
    text = sql.SQL(form).format(column)
    return sql.SQL("coalesce(octet_length({0}) || ':' || {0}, '-')").format(text)


_LOOSE = ("metadata", "ip_address")
_POSTGRES_COLUMNS = tuple(name for name in LEAD_COLUMNS if name not in _LOOSE)
_POSTGRES_QUERY = sql.SQL(
    "SELECT substring(sha256(convert_to(tenant_id, 'UTF8') || '\\x00'::bytea ||"
    " convert_to(idempotency_key, 'UTF8')) FROM 1 FOR 16), decode(md5({digest}), 'hex'),"
    " metadata::text, host(ip_address) FROM public.leads"
).format(digest=sql.SQL(" || ").join(map(_in_sql, _POSTGRES_COLUMNS)))


# Elasticsearch: all documents of one point in time, page by page.


def _mapped() -> tuple[str, ...]:
    text = (resources.files("schemas") / "elasticsearch" / "leads.json").read_text(encoding="utf-8")
    return tuple(name for name in json.loads(text)["mappings"]["properties"] if name != "doc_key")


def _elasticsearch_text(name: str) -> Column:
    return F.date_format(name, ISO_MICROSECONDS) if name == "received_at" else F.col(name).cast("string")


def _elasticsearch_rows(settings: Settings) -> Iterator[Found]:
    server = settings.elasticsearch
    secret = server.password.get_secret_value() if server.password else ""
    login = (server.username, secret) if server.username else None
    with Elasticsearch(server.url, basic_auth=login, request_timeout=60) as client:
        alias = f"{server.prefix}leads"
        client.indices.refresh(index=alias)
        point = client.open_point_in_time(index=alias, keep_alive="2m")["id"]
        try:
            for hit in _hits(client, point):
                yield bytes.fromhex(hit["_id"][:32]), _document_digest(hit["_source"]), ()
        finally:
            client.close_point_in_time(id=point)


def _hits(client: Elasticsearch, point: str) -> Iterator[Any]:
    after: list[Any] | None = None
    while True:
        pit = {"id": point, "keep_alive": "2m"}
        page = client.search(
            pit=pit, size=_PAGE, sort=["_shard_doc"], search_after=after, track_total_hits=False
        )
        hits = page["hits"]["hits"]
        yield from hits
        if len(hits) < _PAGE:
            return
        after = hits[-1]["sort"]


def _document_digest(source: dict[str, Any]) -> bytes:
    values = [source.get(name) for name in SIDES["leads", "elasticsearch"].columns]
    framed = [b"-" if v is None else b"%d:%b" % (len(raw := str(v).encode()), raw) for v in values]
    return hashlib.md5(b"".join(framed), usedforsecurity=False).digest()


SIDES: dict[tuple[str, str], Side] = {
    ("leads", "postgres"): Side(_POSTGRES_COLUMNS, _postgres_text, _LOOSE, _postgres_rows),
    ("leads", "elasticsearch"): Side(_mapped(), _elasticsearch_text, (), _elasticsearch_rows),
}


# What became of some records.


def _trace(context: Context, contract: Contract, prefixes: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Outcomes of the records whose Kafka key is <tenant>|<key> with a key that begins with a prefix."""
    fates = _fates(context, contract, prefixes).persist()
    found: dict[str, dict[str, Any]] = {prefix: {"bronze": 0, "reasons": {}} for prefix in prefixes}
    for row in fates.groupBy("prefix", "fate", "code").count().collect():
        counts = found[row["prefix"]]
        counts["bronze"] += row["count"]
        counts[row["fate"]] = counts.get(row["fate"], 0) + row["count"]
        if row["code"]:
            counts["reasons"][row["code"]] = row["count"]
    fates.unpersist()
    return found


def _fates(context: Context, contract: Contract, prefixes: tuple[str, ...]) -> DataFrame:
    """(prefix, fate, code): fate by where the record's row is; without one, by its consent and its key."""
    spark, settings = context.spark, context.settings
    own = F.get(F.split(F.col("key").cast("string"), r"\|", 2), F.lit(1))
    prefix = F.coalesce(*[F.when(own.startswith(p), F.lit(p)) for p in prefixes])
    raw = read_table(spark, settings, bronze(contract.domain).full_name).where(
        F.col("topic") == contract.topic
    )
    refused = F.get_json_object(F.col("value").cast("string"), _path(contract.consent_field)) == "false"
    mine = raw.select(*PLACE, own.alias("own"), prefix.alias("prefix"), refused.alias("refused"))
    place = [F.col(f"source_{part}").alias(part) for part in PLACE]
    silver = read_table(spark, settings, SILVER[contract.stream].full_name)
    kept = silver.select(*place, F.lit(True).alias("kept"))
    keys = silver.select(F.col("idempotency_key").alias("own"), F.lit(True).alias("known")).distinct()
    letters = read_table(spark, settings, "ops.dead_letters").where(F.col("stage").isin("decode", "validate"))
    dead = letters.select(*place, F.element_at("reasons", 1)["code"].alias("code"))
    fate = (
        F.when(F.col("kept"), "silver")
        .when(F.col("code").isNotNull(), "dead")
        .when(F.col("refused"), "no_consent")
        .when(F.col("known"), "duplicate")
        .otherwise("unexplained")
    )
    found = mine.where(F.col("prefix").isNotNull()).join(kept, PLACE, "left").join(dead, PLACE, "left")
    return found.join(keys, "own", "left").select("prefix", fate.alias("fate"), "code")


def _path(pointer: str | None) -> str:
    """A JSON Pointer in the form that get_json_object takes."""
    return "$" + (pointer or "/").replace("/", ".")
