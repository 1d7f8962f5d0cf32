"""Contracts: one Open Data Contract Standard document per stream, checked and compiled.

The compiled form is plain data (no Spark), so that the API can use it too.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

import jsonschema_rs
import yaml
from open_data_contract_standard import model as odcs

from headwater.errors import SetupError
from headwater.text import nfc, snake_case
from schemas.lines import refuse_unknown

ROW_LIMIT_BYTES = 1 << 20
MAX_DEPTH = 32
EPOCH_MS = "epoch_ms"
_RANGE = {"minimum", "maximum"}
# logicalTypeOptions that are applied, by logicalType.
_OPTIONS = {
    "string": {"maxLength", "pattern", "format"},
    "integer": _RANGE,
    "number": {*_RANGE, "multipleOf"},
}
_KINDS = {"string", "boolean", "integer", "number", "timestamp", "date", "object"}
FORMATS = ("json", "avro")
_REQUIRED = ("topic", "partitions", "tenantField", "eventTimeField", "dedupeKey", "dedupeWindow")
_KNOWN = {
    *_REQUIRED,
    "retentionDays",
    "format",
    "consentField",
    "refusedTopic",
    "uniqueForEver",
    "tenantAgain",
}
_REFUSED_PARTITIONS = 1
# How JSON Schema calls text that is one.
_FORM_OF_TIME = {"timestamp": "date-time", "date": "date"}


@dataclass(frozen=True)
class Field:
    """One field of an event. `path` is its keys from the root; `children` only for objects that name them."""

    path: tuple[str, ...]
    kind: str
    required: bool
    max_length: int | None
    pattern: str | None
    format: str | None
    personal: bool
    description: str
    children: tuple["Field", ...] = ()
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    values: tuple[str, ...] = ()  # of a string; none listed: any
    is_epoch: bool = False  # a timestamp written as milliseconds since 1970
    places: int | None = None  # behind the point of a number, at most; None: it is kept as a double

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def pointer(self) -> str:
        """RFC 6901 JSON Pointer."""
        return "".join(f"/{key.replace('~', '~0').replace('/', '~1')}" for key in self.path)


@dataclass(frozen=True)
class Filter:
    """What a tenant wants of a stream: of the valid events those that meet all `conditions`, or, unless it
    `keeps`, all but those. A condition is a field that has nothing but what is asked of it."""

    name: str
    keeps: bool
    conditions: tuple[Field, ...]


@dataclass(frozen=True)
class Contract:
    """A stream: where it comes from, what identifies an event, which fields it has.

    `refused_topic` holds what the HTTP API refused of it: bodies, with the reasons in the headers.
    `unique_for_ever`: of its events silver has each once, also when one comes again after the window.
    `tenant_again` is a field that, where it is said, must name the same tenant. `format`: json, or avro in
    Confluent's framing. `rules` and `filters` are those of single tenants (schemas/overlay.py).
    """

    stream: str
    domain: str
    version: str
    topic: str
    partitions: int
    retention_days: int
    format: str
    tenant_field: str
    event_time_field: str
    consent_field: str | None
    dedupe_key: tuple[str, ...]
    dedupe_window: str
    fields: tuple[Field, ...]
    refused_topic: str | None = None
    unique_for_ever: bool = False
    tenant_again: str | None = None
    rules: tuple[tuple[str, tuple[Field, ...]], ...] = ()
    filters: tuple[tuple[str, tuple[Filter, ...]], ...] = ()

    @property
    def sources(self) -> dict[str, int]:
        """Every topic that is read for this stream, with its partitions."""
        refused = {self.refused_topic: _REFUSED_PARTITIONS} if self.refused_topic else {}
        return {self.topic: self.partitions, **refused}

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of silver that the dedupe key's fields go into."""
        return tuple(snake_case(pointer.rsplit("/", 1)[-1]) for pointer in self.dedupe_key)

    @property
    def leaves(self) -> tuple[Field, ...]:
        """Every field that holds a value, in document order."""
        return tuple(f for f in walk(self.fields) if not f.children)


def walk(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """All fields at all levels, parents before children."""
    return tuple(f for field in fields for f in (field, *walk(field.children)))


@cache
def contracts() -> dict[str, Contract]:
    """All contracts by stream name. Raises SetupError with file and line."""
    folder = resources.files("schemas") / "contracts"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    loaded = [parse_contract(f.read_text(encoding="utf-8"), f"schemas/contracts/{f.name}") for f in files]
    return {contract.stream: contract for contract in loaded}


def domain_contracts(domain: str) -> dict[str, Contract]:
    """The contracts of one domain by topic. Raises SetupError when there is none."""
    found = {c.topic: c for c in contracts().values() if c.domain == domain}
    if not found:
        known = ", ".join(sorted({c.domain for c in contracts().values()}))
        raise SetupError(f"no contract belongs to domain {domain!r}; known domains: {known}")
    return found


def parse_contract(text: str, origin: str) -> Contract:
    """Compile one document. `origin` is the file's name for messages."""
    model, custom = open_document(text, origin, _REQUIRED, _KNOWN)
    fields = tuple(compile_field(p, (), origin) for p in (model.schema_ or [])[0].properties or [])
    contract = Contract(
        stream=model.name or "",
        domain=model.domain or "",
        version=model.version or "",
        topic=custom["topic"],
        partitions=int(custom["partitions"]),
        retention_days=int(custom.get("retentionDays", 30)),
        format=custom.get("format", "json"),
        tenant_field=custom["tenantField"],
        event_time_field=custom["eventTimeField"],
        consent_field=custom.get("consentField"),
        dedupe_key=tuple(custom["dedupeKey"]),
        dedupe_window=custom["dedupeWindow"],
        fields=fields,
        refused_topic=custom.get("refusedTopic"),
        unique_for_ever=bool(custom.get("uniqueForEver")),
        tenant_again=custom.get("tenantAgain"),
    )
    _check_pointers(contract, origin)
    return contract


def open_document(
    text: str, origin: str, required: Iterable[str], known: Iterable[str]
) -> tuple[odcs.OpenDataContractStandard, dict[str, Any]]:
    """The document and its customProperties by name.

    Raises SetupError for what the standard does not know, with its line, and for a customProperty that is
    missing or not known.
    """
    document = yaml.safe_load(text)
    refuse_unknown(text, origin, document, _validator())
    model = odcs.OpenDataContractStandard.model_validate(document)
    custom: dict[str, Any] = {p.property or "": p.value for p in model.customProperties or []}
    for key in sorted(custom.keys() - set(known)):
        raise SetupError(f"{origin}: unknown customProperty {key!r}; known: {', '.join(sorted(known))}")
    for key in required:
        if key not in custom:
            raise SetupError(f"{origin}: customProperty {key!r} is missing")
    return model, custom


def _check_pointers(contract: Contract, origin: str) -> None:
    if contract.format not in FORMATS:
        raise SetupError(f"{origin}: format {contract.format!r} is none of {', '.join(FORMATS)}")
    known = {field.pointer: field for field in contract.leaves}
    needed = {contract.tenant_field, contract.event_time_field, *contract.dedupe_key}
    besides = {pointer for pointer in (contract.consent_field, contract.tenant_again) if pointer}
    for pointer in sorted((needed | besides) - known.keys()):
        raise SetupError(f"{origin}: {pointer} is named by a customProperty but is no field")
    for pointer in sorted(p for p in needed if not known[p].required):
        raise SetupError(f"{origin}: {pointer} identifies or dates an event and must be `required: true`")


def compile_field(raw: odcs.SchemaProperty, parent: tuple[str, ...], origin: str) -> Field:
    """The field below `parent`. Raises SetupError for what is not applied to its type."""
    path = (*parent, raw.name or "")
    kind = raw.logicalType or ""
    if kind not in _KINDS:
        raise SetupError(
            f"{origin}: field {'.'.join(path)} has logicalType {kind!r}; known: {sorted(_KINDS)}"
        )
    options = raw.logicalTypeOptions or {}
    _refuse_vain(raw, kind, options, f"{origin}: field {'.'.join(path)}")
    return Field(
        path=path,
        kind=kind,
        required=bool(raw.required),
        max_length=options.get("maxLength"),
        pattern=options.get("pattern"),
        format=options.get("format"),
        personal=raw.classification == "personal",
        description=raw.description or "",
        children=tuple(compile_field(child, path, origin) for child in raw.properties or []),
        minimum=_decimal(options.get("minimum")),
        maximum=_decimal(options.get("maximum")),
        values=tuple(nfc(str(allowed.value)) for allowed in raw.enum or ()),
        is_epoch=raw.physicalType == EPOCH_MS,
        places=_places(options.get("multipleOf"), f"{origin}: field {'.'.join(path)}"),
    )


def _decimal(bound: int | float | None) -> Decimal | None:
    """As it was written: a float's shortest text."""
    return None if bound is None else Decimal(str(bound))


def _places(step: int | float | None, where: str) -> int | None:
    """Places behind the point that a number may have which is a multiple of `step`."""
    if step is None:
        return None
    sign, digits, exponent = Decimal(str(step)).normalize().as_tuple()
    if sign or digits != (1,) or int(exponent) > 0:
        raise SetupError(f"{where}: multipleOf is 1, 0.1, 0.01 and so on: places behind the point")
    return -int(exponent)


def _refuse_vain(raw: odcs.SchemaProperty, kind: str, options: Iterable[str], where: str) -> None:
    """Raise for what the standard knows and we do not apply, so that no contract asks in vain."""
    for option in sorted(set(options) - _OPTIONS.get(kind, set())):
        raise SetupError(f"{where}: {option} is not applied to a {kind}")
    if raw.enum and (kind != "string" or {"pattern", "format"} & set(options)):
        raise SetupError(f"{where}: enum is applied to a string, and instead of a pattern or format")
    if raw.physicalType == EPOCH_MS and kind != "timestamp":
        raise SetupError(f"{where}: {EPOCH_MS} is a way to write a timestamp")


def json_schema(contract: Contract) -> dict[str, Any]:
    """JSON Schema 2020-12 of the event as producers send it; unknown keys are allowed and kept."""
    schema = _object_schema(contract.fields)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": contract.stream, **schema}


def _object_schema(fields: tuple[Field, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: field_schema(field) for field in fields},
        "required": [field.name for field in fields if field.required],
    }


def field_schema(field: Field) -> dict[str, Any]:
    """JSON Schema of a field's value."""
    if field.children:
        nullable = {} if field.required else {"type": ["object", "null"]}
        return {**_object_schema(field.children), **nullable, "description": field.description}
    if field.is_epoch:
        nullable = {} if field.required else {"type": ["integer", "null"]}
        return {"type": "integer", **nullable, "description": field.description}
    schema: dict[str, Any] = {"type": "string" if field.kind in _FORM_OF_TIME else field.kind}
    if field.required and field.kind == "string":
        schema |= {"minLength": 1, "pattern": r"\S"}  # empty text is null
    if field.kind in _FORM_OF_TIME:
        schema["format"] = _FORM_OF_TIME[field.kind]
    if field.format:
        schema["format"] = field.format
    if field.max_length:
        schema["maxLength"] = field.max_length
    if field.pattern:
        schema["pattern"] = field.pattern
    for name, bound in (("minimum", field.minimum), ("maximum", field.maximum)):
        if bound is not None:
            schema[name] = int(bound) if bound == bound.to_integral_value() else float(bound)
    if field.places is not None:
        schema["multipleOf"] = float(Decimal(1).scaleb(-field.places))
    if field.values:
        schema["enum"] = [*field.values, *([] if field.required else [None])]
    if not field.required:
        schema["type"] = [schema["type"], "null"]
    return {**schema, "description": field.description}


@cache
def _validator() -> jsonschema_rs.Validator:
    text = (resources.files("open_data_contract_standard") / "schema.json").read_text(encoding="utf-8")
    return jsonschema_rs.validator_for(json.loads(text))
