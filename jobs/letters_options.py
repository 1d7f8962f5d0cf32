"""The filter that every command of `jobs dead-letters` takes, said once."""

import inspect
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Annotated, Any

import typer

from sources.letters.wanted import STATUSES, Wanted, moment


def time_of(text: str) -> datetime:
    """An option that is a time. Raises BadParameter."""
    try:
        return moment(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time: write it as 2026-03-31 or 2026-03-31T10:00:00Z"
        ) from None


def _status(text: str) -> str:
    if text not in STATUSES:
        raise typer.BadParameter(f"status {text!r} is none of {', '.join(STATUSES)}")
    return text


FILTER: dict[str, Any] = {
    "stream": Annotated[str | None, typer.Option(help="Only of this stream, for example lead.ingest.")],
    "tenant": Annotated[str | None, typer.Option(help="Only of this tenant.")],
    "stage": Annotated[
        str | None, typer.Option(help="Only of this stage: api, decode, validate, import, sink:<name>.")
    ],
    "reason": Annotated[
        str | None, typer.Option(help="Only with this code among their reasons, for example rule:pattern.")
    ],
    "fingerprint": Annotated[str | None, typer.Option(help="Only equal ones: the same reasons and bytes.")],
    "contract_version": Annotated[str | None, typer.Option(help="Only those that this version refused.")],
    "status": Annotated[
        str | None,
        typer.Option(parser=_status, metavar="STATUS", help=f"Only these: {', '.join(STATUSES)}."),
    ],
    "since": Annotated[
        datetime | None,
        typer.Option(parser=time_of, metavar="TIME", help="Only what failed then or later; ISO 8601, UTC."),
    ],
    "until": Annotated[
        datetime | None, typer.Option(parser=time_of, metavar="TIME", help="Only what failed before then.")
    ],
}
Command = Callable[..., None]


def filtered(command: Command) -> Command:
    """A command whose first parameter is a Wanted, as typer is to see it: the filter's options instead."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(name, keyword, default=None, annotation=FILTER[name]) for name in FILTER]
    told = [*(one.replace(kind=keyword) for one in own), *options]

    @wraps(command)
    def run(**given: Any) -> None:
        wanted = Wanted(**{name: given.pop(name) for name in FILTER})
        command(wanted, **given)

    vars(run)["__signature__"] = inspect.Signature(told)
    run.__annotations__ = {one.name: one.annotation for one in told}
    return run
