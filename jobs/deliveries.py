"""`python -m jobs deliveries`: what became of webhook deliveries, and trying them again. PostgreSQL only."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, TypeVar

import typer

from headwater.errors import HeadwaterError, SetupError
from headwater.settings import Settings, load_settings
from sinks.webhook.overview import STATUSES, Listed, Overview, Wanted

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="Look at webhook deliveries, and try them again.")

Connector = Annotated[str | None, typer.Option(help="Only this connector, for example crm.")]
Status = Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATUSES)}.")]
Env = Annotated[str | None, typer.Option(help="Which conf/<env>.yaml; default HEADWATER_ENV, else local.")]
Ids = Annotated[list[int] | None, typer.Option("--id", help="A delivery by its number; may be repeated.")]
_COLUMNS = (
    "id",
    "connector",
    "status",
    "attempts",
    "last",
    "next_attempt_at",
    "created_at",
    "tenant",
    "event",
)


@app.command("list")
def show(
    connector: Connector = None,
    status: Status = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
    env: Env = None,
) -> None:
    """List deliveries, newest first.

    status: pending (due at next_attempt_at), delivered, dead (refused, or given up after 72 h; a dead letter
    has been written), gone (its lead was erased meanwhile, or `only` left it out). last: the last answer's
    status, or why there was none: timeout, connection, protocol, address_refused, lead_missing, left_out.
    """
    wanted = Wanted(connector=connector, status=_known(status))
    rows = _asked(env, lambda settings: Overview(settings).newest(wanted, limit))
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row), default=str))
        return
    table = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@app.command()
def retry(
    id: Ids = None,
    connector: Connector = None,
    status: Annotated[str | None, typer.Option(help="With --connector: dead, pending or gone.")] = None,
    env: Env = None,
) -> None:
    """Make deliveries due now, with a new patience of 72 h. Either --id, or --connector and --status.

    dead: when the connector was mended. pending: after an outage, rather than wait. What was delivered is not
    sent again. The running job sends them; this command only marks them, and prints how many.
    """
    if bool(id) == bool(connector) or (connector and not status):
        raise typer.BadParameter("give either --id (one or more), or --connector together with --status")
    wanted = Wanted(ids=tuple(id or ()), connector=connector, status=_known(status))
    count = _asked(env, lambda settings: _retried(settings, wanted))
    print(f"{count} deliveries are due now")
    missing = len(set(wanted.ids)) - count
    if wanted.ids and missing:
        print(f"{missing} of the numbers are unknown, or delivered already", file=sys.stderr)
        raise typer.Exit(1)


def _retried(settings: Settings, wanted: Wanted) -> int:
    """Of a connector that is not configured nobody would send them."""
    if wanted.connector is not None and wanted.connector not in settings.connectors:
        raise SetupError(f"there is no connector {wanted.connector}, but {', '.join(settings.connectors)}")
    return Overview(settings).retry(wanted)


def _known(status: str | None) -> str | None:
    if status is not None and status not in STATUSES:
        raise typer.BadParameter(f"status {status!r} is none of {', '.join(STATUSES)}")
    return status


def _asked(env: str | None, ask: Callable[[Settings], T]) -> T:
    try:
        return ask(load_settings(env))
    except HeadwaterError as fault:
        print(fault, file=sys.stderr)
        raise typer.Exit(fault.exit_code) from None


def _cells(row: Listed) -> tuple[str, ...]:
    last = row.last_status or row.last_error or "-"
    times = (row.next_attempt_at if row.status == "pending" else None, row.created_at)
    due, made = (time.strftime("%Y-%m-%d %H:%M:%S") if time else "-" for time in times)
    return (
        str(row.id), row.connector, row.status, str(row.attempts), str(last), due, made,
        row.tenant_id, row.event_id,
    )  # fmt: skip
