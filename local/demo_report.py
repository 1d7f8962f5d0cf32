"""What the demo prints at its end: counts, rows, speed, latency, and where to look."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.settings import Settings
from local.demo_check import Findings
from local.demo_connectors import Outcome
from local.demo_send import Tally
from local.demo_upload import Upload
from local.traffic import Way

_STREAM = "lead.ingest"
_HEAD = ("stream", "sent", "accepted", "refused", "in silver", "duplicates", "dead letters", "no consent")
_NAMES = {"postgres": "PostgreSQL", "elasticsearch": "Elasticsearch"}


@dataclass(frozen=True)
class Measured:
    """What the demo saw itself. `rows` are of this run, `seen` is key → time first seen in PostgreSQL,
    `produced` counts the records of topics since it began, `connectors` says what became of their shares,
    `live` counts the events sent while all ran; latencies are of those due from `measured_from` on."""

    run: str
    tallies: dict[Way, Tally]
    rows: dict[str, int]
    seen: dict[str, float]
    produced: dict[str, int]
    connectors: dict[str, Outcome]
    upload: Upload
    live: int
    measured_from: float
    seconds: float
    others: dict[str, tuple[Tally, dict[str, Any]]]  # by domain: what was sent, the outcomes in the tables


def report(measured: Measured, findings: Findings, settings: Settings) -> str:
    """The whole text."""
    parts = [
        f"Headwater demo, run {measured.run.rstrip('-')}",
        _outcomes(measured, findings),
        _destinations(measured, findings),
        _connectors(measured),
        _upload(measured.upload),
        _speed(measured),
        _latency(measured),
        _where(measured, settings),
        _verdict(findings, measured.seconds),
    ]
    return "\n\n".join(parts)


def write(measured: Measured, findings: Findings, out: Path) -> None:
    """The figures for programs, as JSON: events a second, latencies in seconds, and what was not as it should
    be."""
    http, whole = _rates(measured)
    numbers = {
        "run": measured.run,
        "http_events_per_s": http,
        "events_per_s": whole,
        "latency_s": _latencies(measured),
        "faults": findings.faults,
    }
    out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def _outcomes(measured: Measured, findings: Findings) -> str:
    rows = [_outcome_row(way, measured, findings) for way in measured.tallies]
    for domain, (tally, found) in measured.others.items():
        if tally.total:
            counts = [found.get(name, 0) for name in ("silver", "duplicate", "dead", "no_consent")]
            rows.append([f"{domain} by Kafka", tally.total, tally.answers["accepted"], 0, *counts])
    total = ["all", *[sum(column) for column in zip(*[row[1:] for row in rows], strict=True)]]
    text = table([_HEAD, *rows, total])
    note = (
        "By HTTP, `refused` are answers 4xx, whose bodies become dead letters at 10/s a tenant, and\n"
        "`no consent` is what the API discarded. By Kafka, all of it is counted in the tables."
    )
    return f"{text}\n{note}"


def _outcome_row(way: Way, measured: Measured, findings: Findings) -> list[str | int]:
    tally, found = measured.tallies[way], findings.outcomes[way]
    direct = way is Way.KAFKA
    return [
        f"{_STREAM} by {'Kafka' if direct else 'HTTP'}",
        tally.total,
        tally.answers["accepted"],
        tally.answers["refused"],
        found.get("silver", 0),
        found.get("duplicate", 0),
        found.get("dead", 0) if direct else measured.produced["lead.refused"],
        found.get("no_consent", 0) if direct else tally.answers["discarded"],
    ]


def _destinations(measured: Measured, findings: Findings) -> str:
    head = ("rows", "of this run", "in all", "in the lake", "missing", "extra", "older", "different")
    rows = [
        [_NAMES.get(system, system), measured.rows.get(system, "-"), counts["found"], counts["silver"]]
        + [counts[name] for name in ("missing", "extra", "older", "different")]
        for system, counts in sorted(findings.destinations.items(), reverse=True)
    ]
    topics = ", ".join(f"{topic} {count:,}" for topic, count in measured.produced.items())
    return (
        f"{table([head, *rows])}\nEvery row compared with the lake by key and by a hash of its columns.\n"
        f"Records of this run in Kafka: {topics}."
    )


def _connectors(measured: Measured) -> str:
    head = ("connectors", "captured", "delivered", "failed", "retried", "open", "dead", "repeats")
    rows = [
        [name, *[getattr(found, column) for column in head[1:]]]
        for name, found in measured.connectors.items()
    ]
    note = (
        "Each gets a share of the leads (`only`): `captured` of this run. The receiver counts as\n"
        "`delivered` what was signed rightly, each event id once; webhook_deliveries must say the same.\n"
        "Some `failed` on demand and were `retried`; `repeats` it had when the connection broke."
    )
    return f"{table([head, *rows])}\n{note}"


def _upload(upload: Upload) -> str:
    head = ("upload", "rows", "valid", "wrong", "in PostgreSQL", "in silver", "told of", "job")
    row = ["contacts.csv", upload.sent, upload.sent - upload.wrong, upload.wrong]
    row += [upload.rows, upload.in_silver, upload.told, str(upload.job.get("status"))]
    return table([head, row])


def _speed(measured: Measured) -> str:
    http, whole = _rates(measured)
    return (
        f"Speed: {http:.0f} events/s sent by HTTP; {whole:.0f} events/s through the pipeline\n"
        f"({measured.live:,} events by HTTP and Kafka, from the first sent to the last row in PostgreSQL)."
    )


def _rates(measured: Measured) -> tuple[float, float]:
    """Events a second: sent by HTTP, and through the pipeline."""
    http = measured.tallies[Way.HTTP]
    last = max(measured.seen.values(), default=http.began)
    return http.per_second, measured.live / max(last - http.began, 0.001)


def _latency(measured: Measured) -> str:
    series = _latencies(measured)
    rows = [
        [_SERIES[name], *[f"{found[key]:.2f}" for key in ("p50", "p95", "max")]]
        for name, found in series.items()
    ]
    note = (
        "A row's time is when a query, asked every 0.2 s, first returned it: up to 0.2 s late, never early.\n"
        "Events are sent when due, whether or not earlier answers have come."
    )
    return table([("seconds", "p50", "p95", "max"), *rows]) + "\n" + note


_SERIES = {
    "due_to_accepted": "due to be sent → HTTP 202",
    "accepted_to_row": "HTTP 202 → row in PostgreSQL",
    "due_to_row": "due to be sent → row in PostgreSQL",
}


def _latencies(measured: Measured) -> dict[str, dict[str, float]]:
    """Seconds, by the names of _SERIES."""
    http = measured.tallies[Way.HTTP]
    due = {key: at for key, at in http.due.items() if at >= measured.measured_from}
    keys = [key for key in http.confirmed if key in measured.seen and key in due]
    series = {
        "due_to_accepted": [http.confirmed[key] - due[key] for key in keys],
        "accepted_to_row": [measured.seen[key] - http.confirmed[key] for key in keys],
        "due_to_row": [measured.seen[key] - due[key] for key in keys],
    }
    return {
        name: {key: quantile(values, share) for key, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))}
        for name, values in series.items()
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile; nan without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, int(share * len(ordered) + 0.5) - 1))]


def _where(measured: Measured, settings: Settings) -> str:
    places = {
        "{api}": f"http://127.0.0.1:{settings.api.port}",
        "{run}": measured.run,
        "{dsn}": settings.postgres.dsn,
        "{es}": settings.elasticsearch.url,
        "{kafka}": settings.kafka.bootstrap,
        "{lake}": settings.lake_root,
    }
    text = _WHERE
    for name, value in places.items():
        text = text.replace(name, value)
    return text.rstrip()


_WHERE = """\
Where to look (first: eval "$(.venv/bin/python -m local env)")
  API            {api}/openapi.json, once `.venv/bin/python -m api` runs again (and `… -m jobs run`):
                 curl -s {api}/ingest -H "X-API-Key: $HEADWATER_API_KEY" \\
                   -H 'Content-Type: application/json' \\
                   -d '{"source": "website", "payload": {"email": "a@example.com", "consent": true}}'
  PostgreSQL     {dsn} (with its password: $HEADWATER_POSTGRES_DSN)
                 psql "$HEADWATER_POSTGRES_DSN" -c "SELECT source, count(*), count(phone) FROM leads
                   WHERE starts_with(idempotency_key, '{run}') GROUP BY source"
  Elasticsearch  curl -s '{es}/leads/_search?q=message:Angebot&size=3&pretty'
  Kafka          {kafka}, topics lead.ingest, lead.refused, lead.normalized, lead.captured, lead.dlq
  Uploads        {api}/uploads, with the key $HEADWATER_API_KEY
  Connectors     .venv/bin/python -m jobs deliveries list
  Delta tables   {lake}/bronze/leads
                 {lake}/silver/leads
                 {lake}/silver/uploaded_rows, agent_turns, usage, crm_leads, …
                 {lake}/gold/session_kpis, billing_daily, …
                 {lake}/ops/ledger
                 {lake}/ops/dead_letters
  Redis          redis-cli -u "$HEADWATER_REDIS_VIEWER_URL" HGET acme:session:<id>:state v
  Proof again    .venv/bin/python -m jobs audit --domain leads
                 .venv/bin/python -m jobs reconcile --domain interactions
"""


def _verdict(findings: Findings, seconds: float) -> str:
    if not findings.faults:
        return f"The ledger balances and every sink agrees with silver. {seconds:.0f} s in all."
    return "\n".join(
        [f"NOT as it should be ({seconds:.0f} s in all):", *[f"  - {f}" for f in findings.faults]]
    )


def table(rows: Sequence[Sequence[object]]) -> str:
    """First column to the left, numbers to the right, a rule below the heading."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *[c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]])
        for row in texts
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
