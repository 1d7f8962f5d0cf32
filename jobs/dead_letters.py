"""`python -m jobs dead-letters`: ops.dead_letters for people, read and marked without Spark."""

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer
from pyspark.sql import SparkSession

from headwater.errors import HeadwaterError, SetupError
from headwater.log import configure_logging
from headwater.session import DeferredSession
from headwater.settings import Settings, load_settings
from jobs import letters_export, letters_print
from jobs.letters_options import filtered
from jobs.queries import Context
from jobs.runs import record_decision, who
from sources.letters import settle
from sources.letters.groups import BY, groups
from sources.letters.newest import newest
from sources.letters.one import find
from sources.letters.shown import listed, told, whole
from sources.letters.wanted import Wanted

T = TypeVar("T")
DECISION = "dead-letters.discard"
app = typer.Typer(
    no_args_is_help=True,
    help="Look at dead letters: what was refused, why, and what became of it. A letter has to meet all of a "
    "filter. Payloads are masked unless --pii is given.",
)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
Pii = Annotated[bool, typer.Option("--pii", help="Payload and values of headers as they came.")]
Ids = Annotated[list[str] | None, typer.Option("--id", help="A letter by its id; may be repeated.")]
Env = Annotated[str | None, typer.Option(help="Which conf/<env>.yaml; default HEADWATER_ENV, else local.")]


@app.command("list")
@filtered
def show_list(
    wanted: Wanted,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 50,
    as_json: AsJson = False,
    env: Env = None,
) -> None:
    """List letters, newest first, without their payloads.

    status: new, replayed (sent again), discarded (somebody is done with it), erased (its payload is gone).
    reasons: the codes, as docs/architecture.md explains them.
    """
    found = [listed(letter) for letter in _asked(env, lambda settings: newest(settings, wanted, limit))]
    (letters_print.json_lines if as_json else letters_print.letters)(found)


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="The letter's id, as list shows it.")],
    pii: Pii = False,
    as_json: AsJson = False,
    env: Env = None,
) -> None:
    """Tell all of one letter: reasons, headers, its place in Kafka, versions, payload, and its kin.

    The masked payload keeps its structure, and the values that the contract knows and does not call personal;
    of the others it shows type and length. What is not JSON (Avro, cut, invalid) is a size and a digest.
    same_fingerprint: how many letters have the same reasons and bytes. replays: letters that came of sending
    this one again. An unknown id ends with exit 2.
    """
    found = _asked(env, lambda settings: _found(settings, id))
    letter = whole(found, pii)
    if as_json:
        letters_print.json_lines([letter])
    else:
        letters_print.one(letter)


@app.command()
@filtered
def stats(
    wanted: Wanted,
    by: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(BY)}; may be repeated. Default: stream, reason.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The largest so many.")] = 50,
    as_json: AsJson = False,
    env: Env = None,
) -> None:
    """Count letters in groups, the largest first, with one of the newest of each as an example.

    By reason a letter counts once for each of its codes: the groups' sum may be more than there are letters.
    """
    names = _groupings(by)
    found = _asked(env, lambda settings: groups(settings, wanted, names, limit))
    rows = [told(group.named(names)) for group in found]
    if as_json:
        letters_print.json_lines(rows)
        return
    made_of = [name.replace("-", "_") for name in names]
    letters_print.records([*made_of, "letters", "first_failed_at", "last_failed_at", "example"], rows)


@app.command()
@filtered
def discard(
    wanted: Wanted,
    id: Ids = None,
    why: Annotated[str, typer.Option(help="Why, for who asks later; no personal data. With --yes.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it only the number is told.")] = False,
    env: Env = None,
) -> None:
    """Be done with letters: new ones become discarded, others stay as they are. By a filter, or by --id.

    They stay in the table, and streams that run do not see the change. Who did it, and why, is written to
    ops.job_runs first. Run again, it finds none. An unknown id ends with exit 2 before anything is done. Only
    on a local lake.
    """
    if bool(id) == bool(wanted.given):
        raise typer.BadParameter("give either a filter or --id (one or more); all there are: --status new")
    if yes and not why.strip():
        raise typer.BadParameter("--yes needs --why TEXT")
    order = replace(wanted, ids=tuple(id or ()))
    count = _asked(env, lambda settings: _discard(settings, order, why.strip(), yes))
    done = "are discarded" if yes else "would be discarded; --yes --why TEXT does it"
    print(f"{count} letters {done}")


@app.command()
@filtered
def export(
    wanted: Wanted,
    file: Annotated[Path, typer.Argument(help="FILE.ndjson or FILE.parquet; one that is there is replaced.")],
    pii: Pii = False,
    env: Env = None,
) -> None:
    """Write letters to a file that only you may read, and that is complete once it has its name.

    Columns are the table's. payload is null, and payload_masked what show tells of it; with --pii it is the
    other way round. In NDJSON the payload is base64.
    """
    count = _asked(env, lambda settings: letters_export.export(settings, wanted, file, pii))
    print(f"{count} letters are in {file}")


def _asked(env: str | None, ask: Callable[[Settings], T]) -> T:
    try:
        return ask(load_settings(env))
    except HeadwaterError as fault:
        typer.echo(str(fault), err=True)
        raise typer.Exit(fault.exit_code) from None


def _found(settings: Settings, dead_letter_id: str) -> Any:
    found = find(settings, dead_letter_id)
    if found is None:
        raise SetupError(f"no dead letter has the id {letters_print.plain(dead_letter_id)}")
    return found


def _groupings(by: list[str] | None) -> list[str]:
    names = list(dict.fromkeys(by or ("stream", "reason")))
    for name in names:
        if name not in BY:
            raise typer.BadParameter(f"--by {name!r} is none of {', '.join(BY)}")
    return names


def _discard(settings: Settings, wanted: Wanted, why: str, do: bool) -> int:
    """Written down before it is done: nobody is done with a letter unseen."""
    configure_logging()
    settle.refuse_remote(settings)
    if lost := settle.unknown(settings, wanted.ids):
        raise SetupError(f"no dead letter has the id {', '.join(map(letters_print.plain, lost))}")
    ids = settle.new_ones(settings, wanted)
    if not do or not ids:
        return len(ids)
    filter = json.dumps(wanted.given, sort_keys=True)
    _record(settings, f"{who()} discards {len(ids)} dead letters, {filter}, because: {why}")
    return settle.discard(settings, ids)


def _record(settings: Settings, what: str) -> None:
    """A row of ops.job_runs. A lake without that table needs Spark to make it."""
    spark = DeferredSession(settings, "headwater dead-letters")
    try:
        record_decision(Context(cast(SparkSession, spark), settings, str(uuid.uuid4())), DECISION, what)
    finally:
        spark.stop()
