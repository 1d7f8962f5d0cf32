"""conf/expectations/<layer>.<table>.yaml: expectations that people write, checked; faults with file and line.

Only types that tell counts are taken, and those that show what they found only of columns that hold nothing
personal: a report is read by people who may not see rows.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

from headwater.errors import SetupError
from schemas.comments import lake_tables, personal_columns
from schemas.expectations import (
    BETWEEN,
    GATE,
    IN_SET,
    LENGTH,
    MATCH,
    NOT_NULL,
    UNIQUE,
    WARN,
    Expectation,
    Suite,
    table_suite,
)
from schemas.lines import line_of, read_strictly
from schemas.tables import Table

ENDING = ".yaml"
_BOUNDS = ("min_value", "max_value")
_PAIR = ("column_A", "column_B")
# Type → arguments that it needs, and that it may have.
_COUNTING: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    NOT_NULL: (("column",), ("mostly",)),
    "expect_column_values_to_be_null": (("column",), ("mostly",)),
    BETWEEN: (("column",), (*_BOUNDS, "mostly")),
    IN_SET: (("column", "value_set"), ("mostly",)),
    "expect_column_values_to_not_be_in_set": (("column", "value_set"), ("mostly",)),
    MATCH: (("column", "regex"), ("mostly",)),
    "expect_column_values_to_not_match_regex": (("column", "regex"), ("mostly",)),
    LENGTH: (("column",), (*_BOUNDS, "mostly")),
    "expect_column_values_to_be_unique": (("column",), ("mostly",)),
    "expect_column_pair_values_a_to_be_greater_than_b": (_PAIR, ("or_equal", "mostly")),
    UNIQUE: (("column_list",), ("mostly",)),
    "expect_table_row_count_to_be_between": ((), _BOUNDS),
}
# They show what they found: a smallest value, a sum.
_SHOWING = {
    f"expect_column_{what}_to_be_between": (("column",), _BOUNDS)
    for what in ("min", "max", "mean", "median", "sum", "unique_value_count", "proportion_of_unique_values")
}
TYPES = _COUNTING | _SHOWING
_COLUMNS = ("column", *_PAIR)
_OF_TEXT = {MATCH, "expect_column_values_to_not_match_regex", LENGTH}
_OF_NUMBERS = {f"expect_column_{what}_to_be_between" for what in ("mean", "median", "sum")}
# By the first word of a column's type: what it can be compared with. Spark would read each row's text as a
# number, fail at the first that is none, and quote it.
_COMPARED: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("INT", "BIGINT", "DOUBLE", "DECIMAL"), (int, float)),
    **dict.fromkeys(("STRING", "DATE", "TIMESTAMP"), (str,)),
    "BOOLEAN": (bool,),
}
_SEVERITY = {"enum": [GATE, WARN]}
_TEXT = {"type": "string", "minLength": 1}
_VALUE = {"type": ["number", "string"]}
_ARGUMENTS: dict[str, Any] = {
    **dict.fromkeys((*_COLUMNS, "regex"), _TEXT),
    **dict.fromkeys(_BOUNDS, _VALUE),
    "column_list": {"type": "array", "minItems": 2, "items": _TEXT},
    "value_set": {"type": "array", "minItems": 1, "items": {"type": ["number", "string", "boolean"]}},
    "or_equal": {"type": "boolean"},
    "mostly": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
}
_EXPECTED = {
    "type": "object",
    "required": ["expect"],
    "additionalProperties": False,
    "properties": {"expect": {"enum": sorted(TYPES)}, "severity": _SEVERITY, "why": _TEXT, **_ARGUMENTS},
}
_RULE = {
    "type": "object",
    "required": ["rule", "holds"],
    "additionalProperties": False,
    "properties": {
        "rule": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,59}$"},
        "holds": _TEXT,
        "severity": _SEVERITY,
        "why": _TEXT,
    },
}
_DOCUMENT = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "properties": {
        "expectations": {"type": "array", "minItems": 1, "items": _EXPECTED},
        "rules": {"type": "array", "minItems": 1, "items": _RULE},
    },
}


def suites(folder: Path) -> dict[str, Suite]:
    """The suite of every table that has one, by its name.

    Raises SetupError, with file and line, for what is wrong in a file, for a file of no table, and for a
    folder that is not there.
    """
    if not folder.is_dir():
        raise SetupError(f"quality.expectations: there is no folder {folder}")
    known = {table.full_name: table for table in lake_tables()}
    files = {path.name.removesuffix(ENDING): path for path in sorted(folder.glob(f"*{ENDING}"))}
    for name in sorted(files.keys() - known.keys()):
        raise SetupError(f"{files[name]}: the lake has no table {name}")
    found = {}
    for name, table in known.items():
        path = files.get(name)
        written = parse_file(path.read_text(encoding="utf-8"), path.name, table) if path else ()
        if suite := table_suite(table, written, path.name if path else ""):
            found[name] = suite
    return found


def parse_file(text: str, origin: str, table: Table) -> tuple[Expectation, ...]:
    """The expectations of one file. `origin` is its name for messages."""
    document, node = read_strictly(text, origin, _validator())
    found: list[Expectation] = []
    for section in ("expectations", "rules"):
        for number, written in enumerate(document.get(section, ())):
            for message in _faults(written, table):
                raise SetupError(f"{origin}:{line_of(node, [section, number])}: {message}")
            one = _rule(written) if section == "rules" else _expectation(written)
            if one.subject in {other.subject for other in found}:
                raise SetupError(f"{origin}:{line_of(node, [section, number])}: this is said twice")
            found.append(one)
    return tuple(found)


def _faults(written: dict[str, Any], table: Table) -> Iterator[str]:
    if "rule" in written:
        return
    kind = written["expect"]
    needed, more = TYPES[kind]
    given = written.keys() - {"expect", "severity", "why"}
    for name in needed:
        if name not in given:
            yield f"{kind} needs {name}"
    for name in sorted(given - {*needed, *more}):
        yield f"{kind} has no {name}"
    if {*_BOUNDS} <= {*more} and not given & {*_BOUNDS}:
        yield f"{kind} needs min_value, max_value, or both"
    columns = [*[written[name] for name in _COLUMNS if name in written], *written.get("column_list", ())]
    for name in columns:
        if name not in table.names:
            yield f"{table.full_name} has no column {name}"
        elif kind in _SHOWING and name in personal_columns():
            yield f"{kind} would show values of {name}, which is personal"
        elif not _fits(kind, written, table.kinds[name].split("(")[0]):
            yield f"{kind}: {name} is {table.kinds[name]}, and cannot be held against this"


def _fits(kind: str, written: dict[str, Any], of: str) -> bool:
    """Whether values of the column's type can be compared with what is written."""
    if kind in _OF_TEXT:
        return of == "STRING"
    if kind in _OF_NUMBERS:
        return of in _COMPARED and int in _COMPARED[of]
    if "unique" in kind:
        return True
    values = [*[written[name] for name in _BOUNDS if name in written], *written.get("value_set", ())]
    # True is an int to Python, and is none to Spark.
    return all(
        isinstance(v, _COMPARED.get(of, ())) and (of == "BOOLEAN") == isinstance(v, bool) for v in values
    )


def _expectation(written: dict[str, Any]) -> Expectation:
    kwargs = {key: value for key, value in written.items() if key in _ARGUMENTS}
    return Expectation(written["expect"], kwargs, written.get("severity", GATE), written.get("why", ""))


def _rule(written: dict[str, Any]) -> Expectation:
    """Held against a column that is worked out: true or false, nothing else."""
    kwargs = {"column": f"rule_{written['rule']}", "value_set": [True]}
    said = written.get("severity", GATE), written.get("why", "")
    return Expectation(IN_SET, kwargs, *said, holds=written["holds"])


@cache
def _validator() -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(_DOCUMENT)
