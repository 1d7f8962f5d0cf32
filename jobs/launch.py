"""From options to an exit code: settings, session, the job, its row in ops.job_runs, the status line."""

import json
import re
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, cast

from prometheus_client import start_http_server
from pyspark.sql import SparkSession

from headwater.clock import utc_now
from headwater.errors import HeadwaterError
from headwater.failpoints import arm
from headwater.log import configure_logging, logger
from headwater.session import DeferredSession, build_session
from headwater.settings import Settings, load_settings
from headwater.tables import table_version
from jobs.faults import translate
from jobs.loops import loops
from jobs.queries import Context, Totals
from jobs.rebuild import Order as Rebuild
from jobs.registry import JOBS
from jobs.replay import Order
from jobs.runs import finished_before, record_run

_log = logger(__name__)
_SECRET = re.compile(r"password|secret|token|(?<!public)key$", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(://[^:/@\s]*):[^@/\s]*@")


@dataclass(frozen=True)
class Launch:
    """What the command line said."""

    job: str
    domains: tuple[str, ...]
    once: bool
    run_id: str | None = None
    dry_run: bool = False
    status_file: str | None = None
    env: str | None = None
    to: str | None = None
    from_start: bool = False
    accept_batch: int | None = None
    accept_gap: bool = False
    trace: tuple[str, ...] = ()
    also_audit: bool = False
    prove: bool = False
    file: str | None = None
    dataset: str | None = None
    tenant: str | None = None
    table: str | None = None
    tables: tuple[str, ...] = ()
    month: str | None = None
    day: str | None = None
    metric: str | None = None
    first_hour: str | None = None
    last_hour: str | None = None
    verify: bool = False
    replay: Order | None = None
    rebuild: Rebuild | None = None
    sample: int | None = None
    show: int = 5
    repair: bool = False

    @property
    def work(self) -> str:
        """The job with what it works on: what a run id is unique for."""
        flags = [name for name in ("prove", "verify", "repair") if getattr(self, name)]
        sampled = f"sample-{self.sample}" if self.sample else None
        more = [self.to, *flags, sampled, self.tenant, self.dataset, self.file, self.table, *self.tables]
        more += [self.month, self.day, self.metric, self.first_hour, self.last_hour]
        more += [one.name for one in (self.replay, self.rebuild) if one]
        return ".".join([self.job, *self.domains, *filter(None, more)])


def launch(order: Launch) -> NoReturn:
    """Run the job and leave the process with its exit code."""
    configure_logging()
    began = time.monotonic()
    status: dict[str, Any] = {"job": order.job, "run_id": order.run_id or str(uuid.uuid4()), "status": "ok"}
    totals, code = Totals(), 0
    told: dict[str, Any] = {}
    try:
        settings = load_settings(order.env)
        arm(settings.env)
        if order.dry_run:
            _show(order, settings)
        else:
            told = _run(order, settings, status["run_id"], totals)
    except Exception as fault:  # the edge: every fault becomes a status line and an exit code
        ours = translate(fault) or HeadwaterError(type(fault).__name__)
        _log.error("job_failed", job=order.job, why=str(ours), exc_info=fault)
        told = {"status": "failed", "error": str(ours)}
        code = ours.exit_code
    # Of a run that failed, what it had done by then.
    status |= {**asdict(totals), "table_versions": {}, **told}
    status["seconds"] = round(time.monotonic() - began, 3)
    _say(status, order.status_file)
    sys.exit(code)


def _run(order: Launch, settings: Settings, run_id: str, totals: Totals) -> dict[str, Any]:
    spark = _session(order, settings)
    context = Context(
        spark,
        settings,
        run_id,
        accept_batch=order.accept_batch,
        accept_gap=order.accept_gap,
        from_start=order.from_start,
        totals=totals,
    )
    try:
        if order.run_id and finished_before(context, order.work):
            return {"status": "noop"}
        _serve_metrics(settings)
        started = utc_now()
        found: dict[str, Any] = {}
        try:
            found = JOBS[order.job](context, order) or {}
        except Exception as foreign:  # every end of a run is written down
            fault = translate(foreign) or HeadwaterError(type(foreign).__name__)
            _record_failed(context, order.work, started, str(fault))
            raise
        record_run(context, order.work, started, "ok", None)
        versions = {name: table_version(spark, settings, name) for name in sorted(context.written)}
        return {"table_versions": versions, **found}
    finally:
        _stop(spark)


def _record_failed(context: Context, work: str, started: datetime, why: str) -> None:
    """Write it down if that is possible: what ended the run is what must be told."""
    try:
        record_run(context, work, started, "failed", why)
    except Exception as fault:  # often the same one: a lake that is away, a JVM that is gone
        _log.warning("run_not_recorded", job=work, why=str(translate(fault) or type(fault).__name__))


def _session(order: Launch, settings: Settings) -> SparkSession:
    app = f"headwater {order.job}"
    if order.job in ("import-files", "extract-marketo", "archive", "maintain") or (
        order.job == "deliver" and order.to in loops(settings, *order.domains)
    ):
        # Spark may be needed for large files, for a table that is new, or by a remote lake.
        return cast(SparkSession, DeferredSession(settings, app))
    return build_session(settings, app)


def _serve_metrics(settings: Settings) -> None:
    try:
        start_http_server(settings.metrics.port, addr=settings.metrics.host)
    except OSError:
        _log.warning(
            "metrics_not_served", port=settings.metrics.port, remedy="HEADWATER_METRICS__PORT=<free port>"
        )


def _show(order: Launch, settings: Settings) -> None:
    print(json.dumps(without_passwords(settings.model_dump(mode="json")), indent=2))
    print(json.dumps({"plan": {k: v for k, v in asdict(order).items() if v}}, indent=2, default=str))


def without_passwords(value: Any) -> Any:
    """The same, without the passwords that stand in addresses and settings of Spark."""
    if isinstance(value, dict):
        return {
            k: "**********" if _SECRET.search(k) and v else without_passwords(v) for k, v in value.items()
        }
    if isinstance(value, list):
        return [without_passwords(item) for item in value]
    return _IN_ADDRESS.sub(r"\1:**********@", value) if isinstance(value, str) else value


def _say(status: dict[str, Any], file: str | None) -> None:
    line = json.dumps(status)
    if file:
        Path(file).write_text(line + "\n", encoding="utf-8")
    print(line, flush=True)


def _stop(spark: SparkSession) -> None:
    try:
        spark.stop()
    except Exception:  # the JVM may be gone already
        _log.warning("session_not_stopped")
