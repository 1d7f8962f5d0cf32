"""What is left of the history of a local Delta table."""

from deltalake import DeltaTable


def last_append(path: str) -> int:
    """The newest version that has brought rows and taken none away, as what is left of the log tells."""
    for entry in DeltaTable(path).history():
        overwrites = entry.get("operationParameters", {}).get("mode") == "Overwrite"
        if entry["operation"] in ("WRITE", "STREAMING UPDATE") and not overwrites:
            return int(entry["version"])
    return 0
