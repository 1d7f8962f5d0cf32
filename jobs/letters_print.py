"""Dead letters on a terminal. What comes from outside is printed without anything that a terminal obeys."""

import base64
import json
from collections.abc import Sequence
from typing import Any

_NOTHING = "-"
# Of a letter in a list, the column's head and what is below it.
_LISTED = ("failed_at", "status", "stage", "stream", "tenant_id", "reasons", "replay_count", "dead_letter_id")


def json_lines(records: Sequence[dict[str, Any]]) -> None:
    """One object a line."""
    for record in records:
        print(json.dumps(record))


def letters(listed: Sequence[dict[str, Any]]) -> None:
    """A line for each."""
    _table(_LISTED, [[_cell(letter, name) for name in _LISTED] for letter in listed])


def records(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """A line for each, with these columns."""
    _table(names, [[_cell(row, name) for name in names] for row in rows])


def one(letter: dict[str, Any]) -> None:
    """All of a letter, a name and a value a line."""
    apart = ("reasons", "headers", "payload", "replays")
    facts = [[name, _cell(letter, name)] for name in letter if name not in apart]
    _lines(facts)
    _section("reasons", [f"{r['code']}  {r['field'] or _NOTHING}  {r['message']}" for r in letter["reasons"]])
    _section("headers", [_header(header) for header in letter["headers"]])
    _section(
        "replays",
        [
            f"{r['failed_at']}  {r['status']}  {_cell(r, 'reasons')}  {r['dead_letter_id']}"
            for r in letter["replays"]
        ],
    )
    _section("payload", _payload(letter["payload"]))


def plain(text: str) -> str:
    """The text with everything that is not printable written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cell(record: dict[str, Any], name: str) -> str:
    value = record[name]
    if name == "reasons":
        return plain(",".join(dict.fromkeys(reason["code"] for reason in value))) or _NOTHING
    if value is None:
        return _NOTHING
    return plain(", ".join(value) if isinstance(value, list) else str(value))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    _lines([head, *rows])


def _lines(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _section(name: str, lines: Sequence[str]) -> None:
    print(f"{name}:" if lines else f"{name}: {_NOTHING}")
    for line in lines:
        print(f"  {plain(line)}")


def _header(header: dict[str, Any]) -> str:
    if "value" not in header:
        return f"{header['name']}  bytes({header['size']})"
    return f"{header['name']}  {_text(base64.b64decode(header['value']))}"


def _payload(payload: dict[str, Any] | None) -> list[str]:
    if payload is None:
        return []
    about = f"{payload['size']} bytes, sha-256 {payload['sha256']}"
    if not payload["masked"]:
        return [about, *_text(base64.b64decode(payload["base64"])).split("\n")]
    if "json" not in payload:
        return [about, "masked; not JSON"]
    shown = json.dumps(payload["json"], indent=2, ensure_ascii=False)
    return [f"{about}; masked", *shown.split("\n")]


def _text(raw: bytes) -> str:
    """As text; what is none, in base64."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(raw).decode()}"
