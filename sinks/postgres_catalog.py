"""What tables PostgreSQL has, held against those that a sink needs."""

from collections.abc import Mapping, Sequence

from psycopg import sql

from headwater.errors import SetupError
from headwater.postgres import Connection

_COLUMNS = (
    "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
    " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
)


def columns_of(connection: Connection, path: Sequence[str]) -> dict[str, str]:
    """A table's columns with their types, without lengths; none when there is no such table."""
    return dict(connection.execute(_COLUMNS, (sql.Identifier(*path).as_string(),)).fetchall())


def require(there: Mapping[str, str], wanted: Sequence[str], table: str) -> None:
    """Raise SetupError that names what `python -m jobs migrate` would make, unless all is there."""
    missing = [name for name in wanted if name not in there]
    if missing:
        what = f"columns {', '.join(missing)} of {table}" if there else f"the table {table}"
        raise SetupError(f"PostgreSQL lacks {what}: run `python -m jobs migrate`")
