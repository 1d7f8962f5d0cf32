"""The commands that do a piece of work and end."""

from dataclasses import replace
from typing import Annotated

import typer

from jobs.launch import Launch, launch
from jobs.options import (
    DatasetName,
    Domains,
    DryRun,
    Env,
    File,
    FirstHour,
    LastHour,
    Once,
    RunId,
    StatusFile,
    Tenant,
    Verify,
)


def close_period(
    month: Annotated[
        str, typer.Option(help="The month, for example 2026-03; all before it are closed, too.")
    ],
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Close a month of billing: its lines never change again, what comes late is billed in the next one."""
    launch(replace(Launch("close-period", (), True, run_id, dry_run, status_file, env), month=month))


def explain_bill(
    tenant: Annotated[str, typer.Option(help="Whose bill.")],
    day: Annotated[str, typer.Option(help="The day of the usage, for example 2026-03-31.")],
    metric: Annotated[str, typer.Option(help="The metric, for example tokens_in.")],
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """List the events behind a number of the bill, with their places in Kafka; exit 3 if they disagree."""
    order = Launch("explain-bill", (), True, run_id, dry_run, status_file, env, tenant=tenant)
    launch(replace(order, day=day, metric=metric))


def import_files(
    once: Once = False,
    file: File = None,
    dataset: DatasetName = None,
    tenant: Tenant = None,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Import uploaded files into silver and PostgreSQL; several workers may share the queue."""
    order = Launch("import-files", (), once, run_id, dry_run, status_file, env)
    launch(replace(order, file=file, dataset=dataset, tenant=tenant))


def extract_marketo(
    once: Once = False,
    from_start: Annotated[bool, typer.Option(help="Begin again at marketo.since.")] = False,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Produce what became of Marketo's leads since the last run to the topic marketo.leads.delta."""
    order = Launch("extract-marketo", (), once, run_id, dry_run, status_file, env, from_start=from_start)
    launch(order)


def migrate(
    run_id: RunId = None, dry_run: DryRun = False, status_file: StatusFile = None, env: Env = None
) -> None:
    """Create topics, Delta tables, PostgreSQL's schema and Elasticsearch's index where they are missing, and
    register Avro schemas."""
    launch(Launch("migrate", (), True, run_id, dry_run, status_file, env))


def maintain(
    run_id: RunId = None, dry_run: DryRun = False, status_file: StatusFile = None, env: Env = None
) -> None:
    """Drop the months of PostgreSQL's CRM tables that are older than retention.crm_months, and make those to
    come; once a day."""
    launch(Launch("maintain", (), True, run_id, dry_run, status_file, env))


def archive(
    domain: Domains = None,
    once: Once = False,
    first: FirstHour = None,
    last: LastHour = None,
    verify: Verify = False,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Write the Kafka records of every hour that is over to the archive, as Parquet."""
    order = Launch("archive", tuple(domain or ()), once, run_id, dry_run, status_file, env)
    launch(replace(order, first_hour=first, last_hour=last, verify=verify))


def report(
    table: Annotated[
        list[str] | None,
        typer.Option(help="A table, for example silver.leads, or ops.ledger; may be repeated."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every table that has a suite, and the ledger.")
    ] = False,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Hold tables against what is expected of them, and the ledger against its limits; exit 3 when a gate
    fails. Writes ops.quality_runs, Data Docs, a page and MLflow."""
    if bool(table) == everything:
        raise typer.BadParameter("give either --table (one or more) or --all")
    launch(replace(Launch("report", (), True, run_id, dry_run, status_file, env), tables=tuple(table or ())))


COMMANDS = (
    import_files,
    extract_marketo,
    archive,
    close_period,
    explain_bill,
    report,
    migrate,
    maintain,
)
