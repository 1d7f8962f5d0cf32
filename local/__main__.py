"""python -m local: the stack's command line. Results go to stdout, progress to stderr."""

import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from headwater.errors import HeadwaterError
from headwater.settings import load_settings
from local import credentials, stack
from local.environment import RECEIVER, environment, lines
from local.install import command
from local.places import say
from local.server import StartError
from local.traffic import Way

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def install() -> None:
    """Fetch the servers' binaries; quick when they are there."""
    stack.install()


@app.command()
def archive() -> None:
    """Archive the classes that a job loads, so that each starts sooner; quick when it is there."""
    from local.archive import make

    make()


@app.command()
def up() -> None:
    """Start the stack and wait until every server answers."""
    stack.up()


@app.command()
def down(wipe: Annotated[bool, typer.Option(help="Delete the data and the lake, too.")] = False) -> None:
    """Stop the stack; data is kept."""
    stack.down()
    if wipe:
        stack.wipe()


@app.command()
def uninstall() -> None:
    """Stop the stack and delete all that it keeps: data, lake, secrets, binaries."""
    stack.uninstall()


@app.command()
def status() -> None:
    """Show the servers; exit code 1 unless all are up."""
    rows = stack.status()
    for row in rows:
        print(f"{row.name:<14} {row.state:<10} {row.pid:>8}  {row.ports}")
    raise typer.Exit(0 if all(row.state == "up" for row in rows) else 1)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A server; without it, all of them.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option("--lines", "-n", help="Lines of each log.")] = 40,
) -> None:
    """Show the end of the servers' logs."""
    if name and name not in stack.SERVERS:
        raise typer.BadParameter(f"no server named {name}: expected one of {', '.join(stack.SERVERS)}")
    chosen = [stack.SERVERS[name]] if name else list(stack.SERVERS.values())
    if follow:
        paths = [str(server.log) for server in chosen]
        os.execv(command("tail"), ["tail", "-n", str(count), "-F", *paths])  # noqa: S606 - no shell wanted
    for server in chosen:
        print(f"==> {server.name} ({server.log}) <==\n{server.tail(count)}\n")


@app.command()
def env() -> None:
    """Print every address, DSN, path and key as KEY=VALUE, for eval."""
    credentials.make_secrets()
    print("\n".join(lines(environment())))


@app.command()
def topics() -> None:
    """Create the Kafka topics that are missing."""
    from schemas.topics import create_topics

    for topic in create_topics(load_settings()):
        print(topic)


@app.command()
def seed(
    domain: Annotated[str, typer.Argument(help="leads, interactions or crm")],
    n: Annotated[int, typer.Argument(min=1, help="How many events.")],
    rate: Annotated[float, typer.Option(min=0, help="Events a second; 0: as fast as it goes.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events, under new keys.")] = 1,
    broken: Annotated[float, typer.Option(min=0, max=0.9, help="Share of broken events.")] = 0.05,
    via: Annotated[Way, typer.Option(help="Through the API, or straight to the topic.")] = Way.KAFKA,
) -> None:
    """Send sample traffic: valid, duplicate, broken and, of leads, without consent."""
    from local.demo_seed import send

    send(domain, n, rate=rate, seed=seed, broken=broken, way=via)


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long to send by HTTP.")] = 25,
    rate: Annotated[float, typer.Option(min=1, help="Events a second by HTTP.")] = 150,
    warm_up: Annotated[
        float, typer.Option(min=0, help="Seconds of the same traffic before, left out of the latencies.")
    ] = 0,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds that the start, and the last rows, may each take.")
    ] = 240,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file, too.")] = None,
    interactions: Annotated[
        int, typer.Option(min=0, help="Events of agents, pages and usage, besides; 0: none.")
    ] = 2000,
    crm: Annotated[int, typer.Option(min=0, help="Events of a CRM, besides; 0: none.")] = 300,
) -> None:
    """Run the whole way once: events in, tables and sinks out, and the proof that they agree."""
    from local.demo import demo as run

    raise typer.Exit(run(seconds, rate, warm_up, patience, out, interactions, crm))


@app.command()
def prove(
    minutes: Annotated[float, typer.Option(min=1, max=600, help="How long it is sent and killed.")] = 5,
    seed: Annotated[int | None, typer.Option(min=0, help="Of an earlier proof: the same faults.")] = None,
    rate: Annotated[float, typer.Option(min=4, max=1000, help="Events a second in all.")] = 40,
    out: Annotated[Path | None, typer.Option("--json", help="Write the counts to this file.")] = None,
) -> None:
    """Kill everything at random while events of every stream come in; prove that none is lost or doubled.

    In a stack of its own: other ports, and the folder `prove` beside the stack's data. Exit 1 if anything is
    lost, doubled or wrong.
    """
    from local.prove import Wanted
    from local.prove import prove as run

    raise typer.Exit(run(Wanted(minutes, secrets.randbelow(1_000_000) if seed is None else seed, rate, out)))


@app.command()
def receiver(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Default: HEADWATER_PORT_RECEIVER.")] = 0,
) -> None:
    """Be a connector's other side until Ctrl-C: checks signatures, counts deliveries, fails as planned.

    Point a connector at it: HEADWATER_CONNECTORS__CRM__URL=http://127.0.0.1:18090/crm,
    HEADWATER_CONNECTORS__CRM__SECRET_FILE=.local/secrets/webhook,
    HEADWATER_CONNECTORS__CRM__ALLOW_PRIVATE='["127.0.0.0/8"]'.
    GET /_seen lists what came; PUT /_plan '[{"status": 503, "times": 3}]' says what becomes of the next ones.
    """
    from local.receiver import Receiver

    credentials.make_secrets()
    with Receiver(port or RECEIVER.number, credentials.read_secret("webhook")) as server:
        say(f"receiver on {server.url}")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


@app.command()
def token(
    tenant: Annotated[str, typer.Option(help="The tenant that the token speaks for.")],
    scope: Annotated[str, typer.Option(help="Scopes, separated by spaces.")],
) -> None:
    """Print a JWT for the API, signed with the local key, valid for an hour."""
    credentials.make_secrets()
    jwt = load_settings().api.jwt
    print(credentials.make_token(tenant, scope, jwt.issuer, jwt.audience))


def main() -> None:
    try:
        app()
    except StartError as fault:
        server = stack.SERVERS[fault.name]
        say(f"\n{fault}\nlast lines of {server.log}:\n{server.tail()}")
        sys.exit(1)
    except HeadwaterError as fault:
        say(f"{fault}")
        sys.exit(fault.exit_code)


if __name__ == "__main__":
    main()
