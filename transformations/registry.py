"""Which transformation makes a stream's silver rows. A stream is a contract, a file and a line here."""

from collections.abc import Callable

from pyspark.sql import DataFrame

from transformations.leads import normalise_leads

# stream → (path of the MaxMind file or None) → outcome rows → silver rows
NORMALISE: dict[str, Callable[[str | None], Callable[[DataFrame], DataFrame]]] = {
    "lead.ingest": normalise_leads,
}
