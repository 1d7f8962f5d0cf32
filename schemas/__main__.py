"""`python -m schemas export`: contracts → schemas/events/<stream>.schema.json, for producers."""

import json
import sys
from pathlib import Path

from schemas.contract import contracts, json_schema

FOLDER = Path(__file__).resolve().parent / "events"


def export() -> list[Path]:
    """Write a JSON Schema per contract of a stream of JSON; the files written. Those of Avro are sources."""
    FOLDER.mkdir(exist_ok=True)
    written = []
    for contract in contracts().values():
        if contract.format != "json":
            continue
        path = FOLDER / f"{contract.stream}.schema.json"
        text = json.dumps(json_schema(contract), indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    if sys.argv[1:] != ["export"]:
        sys.exit("usage: python -m schemas export")
    for path in export():
        print(path)
