"""Which transformation makes a stream's silver rows. A stream is a contract, a file and a line here."""

from collections.abc import Callable

from transformations.leads import normalise_leads
from transformations.verdict import Normalise

# stream → (path of the MaxMind file or None) → what makes columns of its silver table
NORMALISE: dict[str, Callable[[str | None], Normalise]] = {
    "lead.ingest": normalise_leads,
}
