"""Rules and filters of single tenants: schemas/overlays/<stream>.yaml, laid over the stream's contract.

They are asked after the contract's own rules, of that tenant's records alone: first the filters, which say
what the tenant does not want, then the rules, which say what is wrong. So an overlay narrows and never
widens: what the contract refuses, no overlay lets in. One that tries to is refused where that can be told.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml
from open_data_contract_standard import model as odcs

from headwater.errors import SetupError
from schemas.contract import (
    EPOCH_MS,
    Contract,
    Field,
    Filter,
    compile_field,
    contracts,
    field_schema,
    walk,
)
from schemas.lines import line_of, read_strictly

_FOLDER = "overlays"
_ENDING = ".yaml"
_NUMBER = {"type": "number"}
_OPTIONS = "logicalTypeOptions"
# Written as in a contract, without what only describes.
_RULE: dict[str, Any] = {
    "type": "object",
    "required": ["property"],
    "minProperties": 2,
    "additionalProperties": False,
    "properties": {
        "property": {"type": "string"},
        "required": {"const": True},
        "enum": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["value"],
                "additionalProperties": False,
                "properties": {"value": {"type": "string"}},
            },
        },
        _OPTIONS: {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "maxLength": {"type": "integer", "minimum": 1},
                "pattern": {"type": "string", "minLength": 1},
                "minimum": _NUMBER,
                "maximum": _NUMBER,
                "multipleOf": _NUMBER,
            },
        },
    },
}
_RULES = {"type": "array", "minItems": 1, "items": _RULE}
_FILTER: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "minProperties": 2,
    "maxProperties": 2,
    # The name is told: in the log, in metrics, in ops.filtered.
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,39}$"},
        "keep": _RULES,
        "drop": _RULES,
    },
}
_DOCUMENT = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "properties": {
        section: {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "array", "minItems": 1, "items": item},
        }
        for section, item in (("rules", _RULE), ("filters", _FILTER))
    },
}


def overlaid(found: Mapping[str, Contract], folder: Path | None = None) -> dict[str, Contract]:
    """The contracts, each with the overlay that the folder has for its stream, if any; None: those shipped.

    Raises SetupError, with file and line, for what is wrong in one of theirs, for a file of no stream, and
    for a folder that is not there.
    """
    if folder and not folder.is_dir():
        raise SetupError(f"streams.overlays: there is no folder {folder}")
    place = folder or resources.files("schemas") / _FOLDER
    files = {f.name.removesuffix(_ENDING): f for f in place.iterdir()} if place.is_dir() else {}
    named = str(folder or f"schemas/{_FOLDER}")
    for stream in sorted(files.keys() - contracts().keys()):
        raise SetupError(f"{named}/{files[stream].name}: no contract has a stream of that name")
    return {
        key: parse_overlay(file.read_text(encoding="utf-8"), f"{named}/{file.name}", contract)
        if (file := files.get(contract.stream))
        else contract
        for key, contract in found.items()
    }


def parse_overlay(text: str, origin: str, contract: Contract) -> Contract:
    """The contract with this overlay. `origin` is the file's name for messages."""
    document, node = read_strictly(text, origin, _validator())
    whose = next(field for field in contract.leaves if field.pointer == contract.tenant_field)
    for section, tenants in document.items():
        for tenant in tenants:
            if not _takes(whose, tenant):
                line = line_of(node, [section], f"'{tenant}'")
                raise SetupError(f"{origin}:{line}: {tenant!r} can be no tenant of {contract.stream}")
    rules = [
        (tenant, _together(contract, said, _Lines(origin, node, ("rules", tenant))))
        for tenant, said in document.get("rules", {}).items()
    ]
    filters = [
        (tenant, _filters(contract, said, _Lines(origin, node, ("filters", tenant))))
        for tenant, said in document.get("filters", {}).items()
    ]
    return replace(contract, rules=tuple(rules), filters=tuple(filters))


def narrowed(contract: Contract, rules: Iterable[Field]) -> Contract:
    """A contract that has these rules in place of its own, which a record must have passed before.

    What is required in an object requires the object.
    """
    fields = _narrowed(contract.fields, {rule.pointer: rule for rule in rules})
    return replace(contract, fields=fields, rules=(), filters=())


class _Lines:
    """Where something stands in a file."""

    def __init__(self, origin: str, node: yaml.Node | None, path: tuple[str | int, ...]) -> None:
        self._origin, self._node, self._path = origin, node, path

    def at(self, *more: str | int) -> "_Lines":
        return _Lines(self._origin, self._node, (*self._path, *more))

    def of(self, key: str) -> str:
        """Of a key of this, or of its options."""
        inner = () if key in (*_RULE["properties"], *_FILTER["properties"]) else (_OPTIONS,)
        line = line_of(self._node, [*self._path, *inner], f"'{key}'")
        return f"{self._origin}:{line}"

    def fault(self, key: str, message: str) -> SetupError:
        return SetupError(f"{self.of(key)}: {message}")


def _filters(contract: Contract, said: list[dict[str, Any]], lines: _Lines) -> tuple[Filter, ...]:
    found: dict[str, Filter] = {}
    for number, written in enumerate(said):
        name, mine = written["name"], lines.at(number)
        way = "keep" if "keep" in written else "drop"
        if name in found:
            raise mine.fault("name", f"{name!r} is there twice")
        # Of what is not there, nothing can be said.
        asked = [{**condition, "required": True} for condition in written[way]]
        found[name] = Filter(name, way == "keep", _together(contract, asked, mine.at(way)))
    return tuple(found.values())


def _together(contract: Contract, rules: list[dict[str, Any]], lines: _Lines) -> tuple[Field, ...]:
    """Rules of one tenant, at most one of a field."""
    compiled: dict[str, Field] = {}
    for number, rule in enumerate(rules):
        mine = lines.at(number)
        field = _compiled(contract, rule, mine)
        if field.pointer in compiled:
            raise mine.fault("property", f"{field.pointer} has rules already; put them together")
        compiled[field.pointer] = field
    return tuple(compiled.values())


def _compiled(contract: Contract, rule: dict[str, Any], lines: _Lines) -> Field:
    """The field as a contract with nothing but this rule would have it."""
    known = {field.pointer: field for field in walk(contract.fields)}
    base = known.get(rule["property"])
    if base is None:
        raise lines.fault("property", f"{rule['property']} is no field of {contract.stream}")
    written = {name: said for name, said in rule.items() if name != "property"}
    raw = odcs.SchemaProperty(
        name=base.name,
        logicalType=base.kind,
        physicalType=EPOCH_MS if base.is_epoch else None,
        **written,
    )
    field = compile_field(raw, base.path[:-1], lines.of("property"))
    for key, message in _wider(base, field):
        raise lines.fault(key, f"{base.pointer}: {message}")
    return field


def _wider(base: Field, rule: Field) -> Iterable[tuple[str, str]]:
    """Options that let through what the contract refuses, or that nothing can be held against."""
    try:
        re.compile(rule.pattern or "")
    except re.error as fault:
        yield "pattern", f"is no regular expression: {fault}"
    for value in rule.values:
        if not _takes(base, value):
            yield "enum", f"the contract does not take {value!r}"
    pairs = (
        ("maxLength", rule.max_length, base.max_length),
        ("maximum", rule.maximum, base.maximum),
        ("multipleOf", rule.places, base.places),
    )
    for key, said, most in pairs:
        if said is not None and most is not None and said > most:
            yield key, "allows more than the contract; an overlay may only narrow"
    if rule.minimum is not None and base.minimum is not None and rule.minimum < base.minimum:
        yield "minimum", "allows more than the contract; an overlay may only narrow"


def _takes(field: Field, value: str) -> bool:
    """Whether the contract takes this text for the field."""
    return jsonschema_rs.validator_for(field_schema(field), validate_formats=True).is_valid(value)


def _narrowed(fields: tuple[Field, ...], rules: Mapping[str, Field]) -> tuple[Field, ...]:
    needed = {r.path[:end] for r in rules.values() if r.required for end in range(1, len(r.path) + 1)}
    made = []
    for field in fields:
        children = _narrowed(field.children, rules)
        field = replace(field, children=children, required=field.required or field.path in needed)
        rule = rules.get(field.pointer)
        if rule and (rule.pattern or rule.values):
            field = replace(field, pattern=rule.pattern, values=rule.values, format=None)
        if rule:
            bounds = ("max_length", "minimum", "maximum", "places")
            said = {name: getattr(rule, name) for name in bounds}
            field = replace(field, **{name: bound for name, bound in said.items() if bound is not None})
        made.append(field)
    return tuple(made)


@cache
def _validator() -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(_DOCUMENT)
