"""What the checkpoint of a query says of a micro-batch, in a local lake."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def ends(checkpoint: Path, batch: int) -> Iterator[Any]:
    """Where each source ended in the batch, in the source's own words; of one without data yet nothing."""
    # Two lines that say how the batch is run, then one for each source.
    lines = (checkpoint / "offsets" / str(batch)).read_text(encoding="utf-8").splitlines()[2:]
    yield from (json.loads(line) for line in lines if line != "-")
