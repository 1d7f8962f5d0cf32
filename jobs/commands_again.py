"""The commands that prove what is there, and those that put it right."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

import typer

from jobs.launch import Launch, launch
from jobs.letters_options import filtered, time_of
from jobs.options import (
    AlsoAudit,
    Apply,
    Domain,
    DryRun,
    Env,
    Ids,
    PatchFile,
    Plan,
    RunId,
    StatusFile,
    Trace,
    Why,
    Yes,
)
from jobs.rebuild import Order as Rebuild
from jobs.rebuild_shadow import Span
from jobs.replay import Order
from sources.letters.wanted import Wanted


def audit(
    domain: Domain,
    run_id: RunId = None,
    dry_run: DryRun = False,
    status_file: StatusFile = None,
    env: Env = None,
) -> None:
    """Prove from the tables alone that every bronze record has exactly one outcome; if not, exit 3."""
    launch(Launch("audit", (domain,), True, run_id, dry_run, status_file, env))


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


@filtered
def replay(
    wanted: Wanted,
    id: Ids = None,
    patch: PatchFile = None,
    plan: Plan = False,
    apply: Apply = None,
    yes: Yes = False,
    why: Why = "",
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
    yes: Yes = False,
    why: Why = "",
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


COMMANDS = (audit, reconcile, replay, rebuild)
