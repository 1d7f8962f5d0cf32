"""What a table's rows are expected to be: of a contract, and of where silver's rows come from.

Types are Great Expectations' own; nothing of that package is needed to name them. A suite is a list that
can be read, and goes into a report as it is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from schemas.comments import column_of
from schemas.contract import Contract, Field, contracts
from schemas.tables import SILVER, Table

GATE, WARN = "gate", "warn"
NOT_NULL = "expect_column_values_to_not_be_null"
BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
MATCH = "expect_column_values_to_match_regex"
LENGTH = "expect_column_value_lengths_to_be_between"
UNIQUE = "expect_compound_columns_to_be_unique"
_UUID = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
_PLACE = ("source_topic", "source_partition", "source_offset")
_ALWAYS = ("tenant_id", "row_version", "event_time", "refined_at", *_PLACE)


@dataclass(frozen=True)
class Expectation:
    """A type with its arguments. A failing `gate` fails the report, a failing `warn` is told.

    With `holds` it is a rule: the expression, of Spark's SQL, is true of every row; unknown counts as false.
    """

    type: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    severity: str = GATE
    why: str = ""
    holds: str | None = None

    @property
    def column(self) -> str:
        """The column, or columns, that it is about; empty for the table as a whole."""
        named = [self.kwargs.get(key) for key in ("column", "column_A", "column_B")]
        return ", ".join([*filter(None, named), *self.kwargs.get("column_list", ())])

    @property
    def subject(self) -> tuple[str, str]:
        """What it is about: of two with the same the later one counts."""
        return self.type, self.column


@dataclass(frozen=True)
class Suite:
    """All that is expected of a table, by a name that says of what it was made."""

    name: str
    expectations: tuple[Expectation, ...]


def table_suite(table: Table, written: Iterable[Expectation] = (), origin: str = "") -> Suite | None:
    """What the table's contract asks, with `written`, of the file `origin`, in place of what it says of the
    same, and besides; None where nobody expects anything."""
    contract = next((c for stream, c in contracts().items() if SILVER[stream] == table), None)
    made = contract_expectations(contract, table) if contract else ()
    if table.layer == "silver":
        made = (*lineage_expectations(), *made)
    found = {one.subject: one for one in (*made, *written)}
    names = [f"{contract.stream}@{contract.version}" if contract else "", origin]
    name = "+".join(filter(None, names)) or "lineage"
    return Suite(name, tuple(found.values())) if found else None


def lineage_expectations() -> tuple[Expectation, ...]:
    """Of every table of silver: whose a row is, when it came, and from where, each place once."""
    said = [Expectation(NOT_NULL, {"column": name}) for name in _ALWAYS]
    return (*said, Expectation(UNIQUE, {"column_list": list(_PLACE)}))


def contract_expectations(contract: Contract, table: Table) -> tuple[Expectation, ...]:
    """What the contract asks of its fields, of those that are columns.

    Identities: a duplicate that comes after the window enters silver again, so that they are no gate unless
    the stream's events are unique for ever.
    """
    found = [one for name, field, needed in _columns(contract, table) for one in _asked(name, field, needed)]
    severity = GATE if contract.unique_for_ever else WARN
    key = {"column_list": ["tenant_id", *contract.key_columns]}
    return (*found, Expectation(UNIQUE, key, severity))


def _columns(contract: Contract, table: Table) -> Iterator[tuple[str, Field, bool]]:
    """Columns with their fields, and whether each has to be there. Of two fields the outer one has the name:
    what is deeper is stored under another."""
    taken: set[str] = set()
    for name, found, needed in sorted(_leaves(contract.fields, True), key=lambda leaf: len(leaf[1].path)):
        if found.pointer == contract.tenant_field:
            name = "tenant_id"
        if name in table.names and name not in taken:
            yield name, found, needed
        taken.add(name)


def _leaves(fields: tuple[Field, ...], needed: bool) -> Iterator[tuple[str, Field, bool]]:
    for one in fields:
        if one.children:
            yield from _leaves(one.children, needed and one.required)
        else:
            yield column_of(one), one, needed and one.required


def _asked(name: str, field: Field, needed: bool) -> Iterator[Expectation]:
    if needed:
        yield Expectation(NOT_NULL, {"column": name})
    if field.max_length:
        yield Expectation(LENGTH, {"column": name, "max_value": field.max_length})
    if pattern := field.pattern or (_UUID if field.format == "uuid" else None):
        yield Expectation(MATCH, {"column": name, "regex": pattern})
    if field.values:
        yield Expectation(IN_SET, {"column": name, "value_set": list(field.values)})
    bounds = {"min_value": _number(field.minimum), "max_value": _number(field.maximum)}
    if said := {key: bound for key, bound in bounds.items() if bound is not None}:
        yield Expectation(BETWEEN, {"column": name, **said})


def _number(bound: Decimal | None) -> int | float | None:
    if bound is None:
        return None
    return int(bound) if bound == bound.to_integral_value() else float(bound)
