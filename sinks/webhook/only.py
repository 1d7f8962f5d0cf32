"""A connector's `only`: which leads are posted to it, as a condition in SQL on the row `kept` of leads."""

from collections.abc import Mapping, Sequence

from psycopg import sql

from headwater.errors import SetupError

# What a lead can be chosen by. Nothing of the person: configuration is printed and versioned.
COLUMNS = (
    "source submission_type geo_country geo_city device browser os"
    " utm_source utm_medium utm_campaign utm_content utm_term"
).split()
Only = Mapping[str, Sequence[str]]


def check_only(connector: str, only: Only) -> None:
    """Raise SetupError naming columns that leads cannot be chosen by."""
    if unknown := sorted(only.keys() - set(COLUMNS)):
        raise SetupError(
            f"connectors.{connector}.only: leads cannot be chosen by {', '.join(unknown)},"
            f" but by {', '.join(COLUMNS)}"
        )


def condition(only: Only) -> sql.Composable:
    """True when each column has one of its values, with placeholders for `parameters`; null for a null."""
    parts = [
        sql.SQL("kept.{} = ANY({})").format(sql.Identifier(column), sql.Placeholder(f"only_{column}"))
        for column in only
    ]
    return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true")


def parameters(only: Only) -> dict[str, list[str]]:
    """The values of `condition`'s placeholders."""
    return {f"only_{column}": list(values) for column, values in only.items()}
