"""Options that commands share, said once."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

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
Yes = Annotated[bool, typer.Option("--yes", help="Do it at once; needs --why.")]
Why = Annotated[str, typer.Option(help="Why, for who asks later; no personal data.")]
