"""Datasets: what the rows of an uploaded file are. One Open Data Contract Standard document each.

The compiled form is plain data: the API, a job and an executor can hold it.
"""

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from open_data_contract_standard import model as odcs

from headwater.errors import SetupError
from headwater.text import nfc
from schemas.contract import open_document
from schemas.notation import DAY, Notation, notation

COLUMNS_LIMIT = 1_000
ANY = "any"  # the kind of a column that no contract describes
FORMATS = ("email", "uuid", "uri", "ipv4", "ipv6")
DECIMAL_DIGITS = 38
# As Python calls them. All but UTF-8 are decoded before lines are counted.
ENCODINGS = (
    *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "ascii"),
    *(f"iso8859-{part}" for part in (*range(1, 12), *range(13, 17))),
    *(f"cp{page}" for page in (437, 850, 852, 866, *range(1250, 1259))),
    *("koi8-r", "koi8-u", "mac-roman", "shift_jis", "euc_jp", "euc_kr", "gbk", "gb18030", "big5"),
)
_DEFAULT_DECIMAL = (DECIMAL_DIGITS, 10)
_DECIMAL = re.compile(r"(?:decimal|numeric)\((\d{1,2})\s*,\s*(\d{1,2})\)", re.IGNORECASE)
_OPTIONS = {
    "string": {"maxLength", "pattern", "format"},
    "date": {"format"},
    "timestamp": {"format", "defaultTimezone"},
    "integer": set(),
    "number": set(),
    "boolean": set(),
}
_REQUIRED = ("maxInvalidShare",)
_KNOWN = {
    *_REQUIRED,
    "delimiter",
    "quote",
    "header",
    "encoding",
    "extraColumns",
    "decimalSeparator",
    "booleans",
}
_NO_DELIMITER = re.compile(r"[\w \n\r\f\v\".]", re.ASCII)


@dataclass(frozen=True)
class Column:
    """One column. Numbers are decimals of `precision` digits, `scale` of them behind the point."""

    name: str
    kind: str
    required: bool = False
    max_length: int | None = None
    pattern: str | None = None
    format: str | None = None
    notation: Notation | None = None
    timezone: str | None = None
    precision: int = _DEFAULT_DECIMAL[0]
    scale: int = _DEFAULT_DECIMAL[1]
    personal: bool = False
    description: str = ""


@dataclass(frozen=True)
class Dialect:
    """How text files of a dataset are written. `header`: found (the first record names the columns) or given
    (the contract's columns, in its order). `quote` None: quotes are letters like any other."""

    delimiter: str = ","
    quote: str | None = '"'
    header: str = "found"
    encoding: str = "utf-8"
    decimal_separator: str = "."
    booleans: tuple[str, str] = ("true", "false")


@dataclass(frozen=True)
class Dataset:
    """Without columns it is generic: every column of the file, all values texts."""

    name: str
    version: str
    columns: tuple[Column, ...] = ()
    dialect: Dialect = Dialect()
    max_invalid_share: float | None = None
    extra_columns: str = "refuse"

    @property
    def generic(self) -> bool:
        return not self.columns

    def column(self, name: str) -> Column:
        """The column of this name; of kind ANY when the dataset does not describe it."""
        return next((column for column in self.columns if column.name == name), Column(name, ANY))

    def tolerates(self, read: int, invalid: int, unless_said: float) -> bool:
        """Whether so many invalid rows among those read are no reason to refuse the file; `unless_said` is
        the share that is permitted where the contract names none."""
        share = unless_said if self.max_invalid_share is None else self.max_invalid_share
        return invalid <= read * share


def generic(name: str, dialect: Dialect | None = None) -> Dataset:
    """A dataset that has no contract: it takes rows of any columns, as trimmed texts in NFC."""
    return Dataset(name, version="0", dialect=dialect or Dialect())


@cache
def datasets() -> dict[str, Dataset]:
    """All datasets that have a contract, by name. Raises SetupError with file and line."""
    folder = resources.files("schemas") / "datasets"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    loaded = [parse_dataset(f.read_text(encoding="utf-8"), f"schemas/datasets/{f.name}") for f in files]
    return {dataset.name: dataset for dataset in loaded}


def dataset(name: str) -> Dataset:
    """The dataset of this name, generic when it has no contract."""
    return datasets().get(name) or generic(name)


def read_as(found: Dataset, options: Mapping[str, Any]) -> Dataset:
    """The same dataset, for a file of which its sender has said how it is written.

    `options`: encoding, delimiter, quote, and header (whether the first record names the columns), each or
    none. Raises SetupError for a combination that cannot be read.
    """
    was = found.dialect
    custom = {
        "encoding": was.encoding,
        "delimiter": was.delimiter,
        "quote": was.quote or "none",
        "header": was.header,
        "decimalSeparator": was.decimal_separator,
        "booleans": was.booleans,
    }
    custom |= {name: options[name] for name in ("encoding", "delimiter", "quote") if name in options}
    if "header" in options:
        custom["header"] = "found" if options["header"] else "given"
    return replace(found, dialect=_dialect(custom, "the file's options"))


def parse_dataset(text: str, origin: str) -> Dataset:
    """Compile one document. `origin` is the file's name for messages."""
    model, custom = open_document(text, origin, _REQUIRED, _KNOWN)
    properties = (model.schema_ or [])[0].properties or []
    columns = tuple(_column(p, f"{origin}: column {p.name}") for p in properties)
    names = [column.name for column in columns]
    if not 0 < len(columns) <= COLUMNS_LIMIT or len(set(names)) < len(names):
        raise SetupError(f"{origin}: a dataset has 1 to {COLUMNS_LIMIT} columns, each of another name")
    share = custom["maxInvalidShare"]
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise SetupError(f"{origin}: maxInvalidShare is a share, from 0 to 1")
    extra = custom.get("extraColumns", "refuse")
    _one_of(extra, ("refuse", "ignore"), f"{origin}: extraColumns")
    return Dataset(
        name=model.name or "",
        version=model.version or "",
        columns=columns,
        dialect=_dialect(custom, origin),
        max_invalid_share=float(share),
        extra_columns=extra,
    )


def _column(raw: odcs.SchemaProperty, origin: str) -> Column:
    kind, options = raw.logicalType or "", raw.logicalTypeOptions or {}
    _one_of(kind, tuple(_OPTIONS), f"{origin}: logicalType")
    for option in sorted(options.keys() - _OPTIONS[kind]):
        raise SetupError(f"{origin}: the option {option!r} is not applied to a {kind}")
    name = raw.name or ""
    if nfc(name).strip() != name or "\0" in name:
        raise SetupError(f"{origin}: a name is in NFC, without white space at its ends")
    column = Column(
        name=name,
        kind=kind,
        required=bool(raw.required),
        personal=raw.classification == "personal",
        description=raw.description or "",
    )
    if kind == "string":
        return _text_column(column, options, origin)
    if kind == "number" and raw.physicalType:
        return _number_column(column, raw.physicalType, origin)
    if kind == "date":
        return replace(column, notation=_day(options.get("format", DAY), origin))
    return _timestamp_column(column, options, origin) if kind == "timestamp" else column


def _text_column(column: Column, options: dict[str, Any], origin: str) -> Column:
    form = options.get("format")
    if form is not None:
        _one_of(form, FORMATS, f"{origin}: format")
    pattern = options.get("pattern")
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise SetupError(f"{origin}: the pattern is no regular expression: {error}") from error
    return replace(column, max_length=options.get("maxLength"), pattern=pattern, format=form)


def _number_column(column: Column, physical: str, origin: str) -> Column:
    found = _DECIMAL.fullmatch(physical)
    precision, scale = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < precision <= DECIMAL_DIGITS or scale > precision:
        raise SetupError(f"{origin}: physicalType of a number is decimal(precision, scale), up to 38 digits")
    return replace(column, precision=precision, scale=scale)


def _day(text: str, origin: str) -> Notation:
    made = notation(text, origin)
    if made.has_time:
        raise SetupError(f"{origin}: the notation {text!r} of a date has a time")
    return made


def _timestamp_column(column: Column, options: dict[str, Any], origin: str) -> Column:
    """Without a format ISO 8601 with an offset or Z; else the zone must be stated by one or the other."""
    text, zone = options.get("format"), options.get("defaultTimezone")
    made = notation(text, origin) if text else None
    if made and not made.has_time:
        raise SetupError(f"{origin}: the notation {text!r} of a timestamp has no time")
    if (made is None or made.has_offset) == (zone is not None):
        raise SetupError(f"{origin}: a timestamp's zone is stated once: an offset in it, or defaultTimezone")
    if zone is not None:
        try:
            ZoneInfo(zone)
        except (OSError, ValueError, KeyError) as error:
            raise SetupError(f"{origin}: {zone!r} is no time zone") from error
    return replace(column, notation=made, timezone=zone)


def _dialect(custom: dict[str, Any], origin: str) -> Dialect:
    dialect = Dialect(
        delimiter=custom.get("delimiter", ","),
        quote=None if custom.get("quote", '"') == "none" else custom.get("quote", '"'),
        header=custom.get("header", "found"),
        encoding=_encoding(custom.get("encoding", "utf-8"), origin),
        decimal_separator=custom.get("decimalSeparator", "."),
        booleans=tuple(custom.get("booleans", ("true", "false"))),
    )
    _one_of(dialect.header, ("found", "given"), f"{origin}: header")
    _one_of(dialect.decimal_separator, (".", ","), f"{origin}: decimalSeparator")
    _one_of(dialect.quote, ('"', "'", None), f"{origin}: quote")
    delimiter = dialect.delimiter
    plain = isinstance(delimiter, str) and len(delimiter) == 1 and "\0" < delimiter < "\x7f"
    if not plain or delimiter == dialect.quote or _NO_DELIMITER.fullmatch(delimiter):
        raise SetupError(
            f"{origin}: delimiter is one character of ASCII, no letter, digit, point, space or quote"
        )
    if len({text.lower() for text in dialect.booleans}) != 2:
        raise SetupError(f"{origin}: booleans are two texts, what is true and what is false")
    return dialect


def _encoding(name: Any, origin: str) -> str:
    try:
        found = codecs.lookup(str(name)).name
    except LookupError:
        found = ""
    _one_of(found or name, ENCODINGS, f"{origin}: encoding")
    return found


def _one_of(found: Any, known: tuple[Any, ...], what: str) -> None:
    if found not in known:
        raise SetupError(f"{what} {found!r} is not known; known: {', '.join(map(str, known))}")
