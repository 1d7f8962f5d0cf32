"""The command line of the jobs: options → settings, session, queries, status line."""

import typer

from jobs import commands_again, commands_batch, commands_flow, dead_letters, deliveries

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (*commands_flow.COMMANDS, *commands_again.COMMANDS, *commands_batch.COMMANDS):
    app.command()(command)
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(dead_letters.app, name="dead-letters")
