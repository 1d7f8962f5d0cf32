"""The command line of the jobs: options → settings, session, queries, status line."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from jobs import dead_letters, deliveries
from jobs.launch import Launch, launch
from jobs.letters_options import filtered, time_of
from jobs.rebuild import Order as Rebuild
from jobs.rebuild_shadow import Span
from jobs.replay import Order
from sources.letters.wanted import Wanted

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(dead_letters.app, name="dead-letters")

Once = Annotated[bool, typer.Option(help="Take all there is, then exit. Without it: run until SIGTERM.")]
RunId = Annotated[
    str | None, typer.Option(help="Name of this run; a second run with the same name does nothing.")
]
DryRun = Annotated[bool, typer.Option(help="Print the resolved configuration, secrets hidden, and the plan.")]
StatusFile = Annotated[str | None, typer.Option(help="Write the final status there as well, as JSON.")]
Env = Annotated[str | None, typer.Option(help="Which conf/<env>.yaml; default HEADWATER_ENV, else local.")]
Domain = Annotated[str, typer.Option(help="The domain, for example leads.")]
Domains = Annotated[list[str] | None, typer.Option(help="Only these domains; default: all.")]
System = Annotated[
    str, typer.Option(help="The destination: postgres, elasticsearch, captured, webhook-crm, …")
]
FromStart = Annotated[
    bool,
    typer.Option(
        help="Empty the destination and rebuild it from silver. With captured: announce all leads again. "
        "With webhook-…: also send what was captured before the connector was enabled."
    ),
]
Trace = Annotated[list[str] | None, typer.Option(help="Also tell what became of keys with this prefix.")]
AlsoAudit = Annotated[bool, typer.Option(help="Do what audit does as well, in the same session.")]
Prove = Annotated[
    bool,
    typer.Option(
        help="After the last batch, do what audit and reconcile do; exit 3 on any difference. "
        "Without --once: stop it when nothing is coming any more, for each query ends at its own batch."
    ),
]
Gap = Annotated[
    bool,
    typer.Option(
        help="Go on at the first record that Kafka still has; what left it before is named in ops.job_runs."
    ),
]
File = Annotated[str | None, typer.Option(help="Import this file, and nothing else, then exit.")]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="With --file: what its rows are.")]
Tenant = Annotated[str | None, typer.Option(help="With --file: whose it is; default uploads.tenant.")]
FirstHour = Annotated[
    str | None, typer.Option("--from", help="The first hour, for example 2026-03-01T10; UTC.")
]
LastHour = Annotated[str | None, typer.Option("--until", help="The last hour, which is archived too.")]
Verify = Annotated[
    bool, typer.Option(help="Archive nothing; read all that is archived again, exit 3 on any difference.")
]
Ids = Annotated[list[str] | None, typer.Option("--id", help="A letter by its id; may be repeated.")]
PatchFile = Annotated[
    Path | None, typer.Option("--patch", help="A JSON Patch (RFC 6902) that mends each event first.")
]
Plan = Annotated[bool, typer.Option("--plan", help="Only say what would come of it; also without --yes.")]
Apply = Annotated[UUID | None, typer.Option(help="Do the plan with this number, as it was told, or refuse.")]
Accept = Annotated[int | None, typer.Option(help="Let this one batch pass the breaker.")]


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command("close-period")
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


@app.command("explain-bill")
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


@app.command("import-files")
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


@app.command("extract-marketo")
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


@app.command()
def migrate(
    run_id: RunId = None, dry_run: DryRun = False, status_file: StatusFile = None, env: Env = None
) -> None:
    """Create topics, Delta tables, PostgreSQL's schema and Elasticsearch's index where they are missing, and
    register Avro schemas."""
    launch(Launch("migrate", (), True, run_id, dry_run, status_file, env))


@app.command()
def audit(
    domain: Domain,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Prove from the tables alone that every bronze record has exactly one outcome; if not, exit 3."""
    launch(Launch("audit", (domain,), True, run_id, dry_run, status_file, env))


@app.command()
def reconcile(
    domain: Domain,
    to: Annotated[
        str | None, typer.Option(help="Only this destination: postgres, elasticsearch, redis.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Compare about so many keys of each table, the same ones each time."),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Put right what differs, by the code that delivers; then look again."),
    ] = False,
    show: Annotated[
        int, typer.Option(min=0, max=1000, help="So many examples of differences, of each table.")
    ] = 5,
    trace: Trace = None,
    also_audit: AlsoAudit = False,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Compare every destination with silver and gold by key, version and hash; exit 3 on any difference.

    missing: the lake has the row, the destination does not. extra: the other way round. older: it is there in
    a lower version than the lake's newest. different: it has other content at the same version, or a version
    that the lake does not have. Examples are places in Kafka (topic-partition-offset) of the lake's rows; of
    extra rows the SHA-256 of the key's parts with NUL between.

    Leave the deliveries idle, or what is on its way counts as missing or older.

    --repair writes missing and older rows again, replaces different ones, and deletes extra ones that are
    still as they were seen and not in the lake. Deliveries may run meanwhile. Exit 0 if nothing is left. Who
    did it is written to ops.job_runs first. With --sample only the sample is repaired.
    """
    order = Launch("reconcile", (domain,), True, run_id, dry_run, status_file, env, to=to)
    order = replace(order, sample=sample, show=show, repair=repair)
    launch(replace(order, trace=tuple(trace or ()), also_audit=also_audit))


@app.command()
@filtered
def replay(
    wanted: Wanted,
    id: Ids = None,
    patch: PatchFile = None,
    plan: Plan = False,
    apply: Apply = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it at once; needs --why.")] = False,
    why: Annotated[str, typer.Option(help="Why, for who asks later; no personal data.")] = "",
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Send dead letters to their topics again, mended by a JSON Patch if there is one.

    Without --yes it is only planned: the same code says what would pass, fail still, be a duplicate, which
    keys of gold would move from what to what, and what each destination would get. --apply does a plan, or
    refuses (exit 3) where letters, silver, gold, contracts or code have moved since. Twice is once.
    """
    if apply and (wanted.given or id or patch or plan or yes):
        raise typer.BadParameter("--apply does a plan as it is: give nothing else but --why")
    if not apply and bool(id) == bool(wanted.given):
        raise typer.BadParameter("give either a filter or --id (one or more); all there are: --status new")
    if plan and yes:
        raise typer.BadParameter("--plan does nothing, --yes does it: give one of them")
    if yes and not why.strip():
        raise typer.BadParameter("--yes needs --why TEXT")
    order = Launch("replay", (), True, run_id, dry_run, status_file, env)
    asked = replace(wanted, ids=tuple(id or ()))
    launch(replace(order, replay=Order(asked, patch, apply, yes, why.strip())))


@app.command()
def rebuild(
    stream: Annotated[str | None, typer.Option(help="The stream, for example lead.ingest.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=time_of, metavar="TIME", help="What came then or later; ISO 8601, UTC."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=time_of, metavar="TIME", help="What came before then.")
    ] = None,
    plan: Plan = False,
    apply: Apply = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it at once; needs --why.")] = False,
    why: Annotated[str, typer.Option(help="Why, for who asks later; no personal data.")] = "",
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Decide again what bronze has of a stream, by today's code, contract and rules of tenants: silver, dead
    letters, gold and destinations.

    Without --yes it is only planned: how many records become what, why some fail, which keys of gold would
    move from what to what, and what each destination would get. --apply does a plan, or refuses (exit 3)
    where what it names has moved since. Streams may run on. Cut off, it is ended by --apply; twice is once.
    """
    if apply and (stream or since or until or plan or yes):
        raise typer.BadParameter("--apply does a plan as it is: give nothing else but --why")
    if not apply and not (stream and since and until):
        raise typer.BadParameter("give --stream, --since and --until, or --apply")
    if since and until and since >= until:
        raise typer.BadParameter("--since is not before --until")
    if plan and yes:
        raise typer.BadParameter("--plan does nothing, --yes does it: give one of them")
    if (yes or apply) and not why.strip():
        raise typer.BadParameter("what changes tables needs --why TEXT")
    span = Span(stream, since, until) if stream and since and until else None
    order = Launch("rebuild", (), True, run_id, dry_run, status_file, env)
    launch(replace(order, rebuild=Rebuild(span, apply, yes, why.strip())))


@app.command()
def maintain(
    run_id: RunId = None, dry_run: DryRun = False, status_file: StatusFile = None, env: Env = None
) -> None:
    """Drop the months of PostgreSQL's CRM tables that are older than retention.crm_months, and make those to
    come; once a day."""
    launch(Launch("maintain", (), True, run_id, dry_run, status_file, env))


@app.command()
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


@app.command()
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
