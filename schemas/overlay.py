"""Rules of single tenants: schemas/overlays/<stream>.yaml, laid over the stream's contract.

They are asked after the contract's own rules, of that tenant's records alone. So an overlay narrows and never
widens: what the contract refuses, no overlay lets in. One that tries to is refused where that can be told.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import jsonschema_rs
import yaml
from open_data_contract_standard import model as odcs

from headwater.errors import SetupError
from schemas.contract import (
    EPOCH_MS,
    Contract,
    Field,
    compile_field,
    contracts,
    field_schema,
    line_of,
    refuse_unknown,
    walk,
)

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
_DOCUMENT = {
    "type": "object",
    "required": ["tenants"],
    "additionalProperties": False,
    "properties": {
        "tenants": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "array", "minItems": 1, "items": _RULE},
        }
    },
}


def overlaid(found: Mapping[str, Contract], folder: Traversable | None = None) -> dict[str, Contract]:
    """The contracts, each with the overlay that the folder has for its stream, if any.

    Raises SetupError, with file and line, for what is wrong in one of theirs, and for a file of no stream.
    """
    place = folder or resources.files("schemas") / _FOLDER
    files = {f.name.removesuffix(_ENDING): f for f in place.iterdir()} if place.is_dir() else {}
    for stream in sorted(files.keys() - contracts().keys()):
        raise SetupError(f"{_origin(files[stream])}: no contract has a stream of that name")
    return {
        key: parse_overlay(file.read_text(encoding="utf-8"), _origin(file), contract)
        if (file := files.get(contract.stream))
        else contract
        for key, contract in found.items()
    }


def parse_overlay(text: str, origin: str, contract: Contract) -> Contract:
    """The contract with this overlay. `origin` is the file's name for messages."""
    document, node = _read(text, origin)
    whose = next(field for field in contract.leaves if field.pointer == contract.tenant_field)
    overlays = []
    for tenant, rules in document["tenants"].items():
        if not _takes(whose, tenant):
            line = line_of(node, ["tenants"], f"'{tenant}'")
            raise SetupError(f"{origin}:{line}: {tenant!r} can be no tenant of {contract.stream}")
        compiled: dict[str, Field] = {}
        for number, rule in enumerate(rules):
            lines = _Lines(origin, node, tenant, number)
            field = _compiled(contract, rule, lines)
            if field.pointer in compiled:
                raise lines.fault("property", f"{field.pointer} has rules already; put them together")
            compiled[field.pointer] = field
        overlays.append((tenant, tuple(compiled.values())))
    return replace(contract, overlays=tuple(overlays))


def narrowed(contract: Contract) -> dict[str, Contract]:
    """A contract for each tenant with an overlay. It has the tenant's rules in place of the contract's own,
    which a record must have passed before.

    What is required in an object requires the object.
    """
    return {
        tenant: replace(
            contract, fields=_narrowed(contract.fields, {r.pointer: r for r in rules}), overlays=()
        )
        for tenant, rules in contract.overlays
    }


class _Lines:
    """Where a rule stands."""

    def __init__(self, origin: str, node: yaml.Node | None, tenant: str, number: int) -> None:
        self._origin, self._node, self._path = origin, node, ("tenants", tenant, number)

    def of(self, key: str) -> str:
        inner = () if key in _RULE["properties"] else (_OPTIONS,)
        line = line_of(self._node, [*self._path, *inner], f"'{key}'")
        return f"{self._origin}:{line}"

    def fault(self, key: str, message: str) -> SetupError:
        return SetupError(f"{self.of(key)}: {message}")


def _read(text: str, origin: str) -> tuple[Any, yaml.Node | None]:
    try:
        document, node = yaml.safe_load(text), yaml.compose(text)
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 1
        raise SetupError(f"{origin}:{line}: {fault.problem}") from None
    _refuse_doubled(node, origin)
    refuse_unknown(text, origin, document, _validator())
    return document, node


def _refuse_doubled(node: yaml.Node | None, origin: str) -> None:
    """YAML's reader would take the last of two and say nothing, so that rules would be lost; and JSON has no
    keys but texts."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubled(item, origin)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        where = f"{origin}:{key.start_mark.line + 1}"
        if key.tag != "tag:yaml.org,2002:str":
            raise SetupError(f"{where}: {key.value!r} is no text; put it into quotation marks")
        if key.value in seen:
            raise SetupError(f"{where}: {key.value!r} is there twice")
        seen.add(key.value)
        _refuse_doubled(value, origin)


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


def _origin(file: Traversable) -> str:
    return f"schemas/{_FOLDER}/{file.name}"
