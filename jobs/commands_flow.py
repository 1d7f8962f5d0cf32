"""The commands that run queries: ingest, refine, build, deliver, and all of them at once."""

from dataclasses import replace
from typing import Annotated

import typer

from jobs.launch import Launch, launch
from jobs.options import (
    Accept,
    Domain,
    Domains,
    DryRun,
    Env,
    FromStart,
    Gap,
    Once,
    Prove,
    RunId,
    StatusFile,
    System,
    Trace,
)


def ingest(
    domain: Domain,
    once: Once = False,
    accept_gap: Gap = False,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Copy the domain's Kafka topics into bronze, each record exactly once."""
    launch(Launch("ingest", (domain,), once, run_id, dry_run, status_file, env, accept_gap=accept_gap))


def refine(
    domain: Domain,
    once: Once = False,
    accept_batch: Accept = None,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Decode, validate, normalise and deduplicate bronze into silver; the rest becomes dead letters."""
    launch(Launch("refine", (domain,), once, run_id, dry_run, status_file, env, accept_batch=accept_batch))


def deliver(
    domain: Domain,
    to: System,
    once: Once = False,
    from_start: FromStart = False,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Upsert silver into one destination, or announce captured leads (captured, webhook-<connector>)."""
    launch(
        Launch("deliver", (domain,), once, run_id, dry_run, status_file, env, to=to, from_start=from_start)
    )


def build(
    table: Annotated[str, typer.Option(help="A silver table that feeds gold, or a gold table.")],
    once: Once = False,
    from_start: Annotated[bool, typer.Option(help="First count all of silver again.")] = False,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Count what new rows of silver touch again, and replace it in gold."""
    order = Launch("build", (), once, run_id, dry_run, status_file, env, from_start=from_start)
    launch(replace(order, table=table))


def run(
    domain: Domains = None,
    once: Once = False,
    prove: Prove = False,
    trace: Trace = None,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Run every query of the domains in one Spark application: ingest, refine, build and all deliveries."""
    order = Launch("run", tuple(domain or ()), once, run_id, dry_run, status_file, env)
    launch(replace(order, prove=prove, trace=tuple(trace or ())))


COMMANDS = (ingest, refine, build, deliver, run)
