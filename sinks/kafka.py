"""silver.<table> or ops.dead_letters → a Kafka topic: keyed, in the batch's order per key, at least once.

A batch that is repeated is sent again: consumers tell repeats by the event's id and row_version, or by the
dead letter's id.
"""

from collections.abc import Callable, Sequence
from time import monotonic

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.clock import ISO_MICROSECONDS
from headwater.kafka import check_topic, spark_config
from headwater.log import logger
from headwater.settings import Settings
from schemas.tables import LETTER_PAYLOAD_BYTES
from schemas.topics import MAX_MESSAGE_BYTES
from sinks.base import Written

# Rows → rows with `key` and `value`.
Messages = Callable[[DataFrame], DataFrame]
_JSON = {"ignoreNullFields": "false", "timestampFormat": ISO_MICROSECONDS}
_log = logger(__name__)


class KafkaSink:
    """One topic, written by Spark's own producer: idempotent, acks=all."""

    name = "kafka"

    def __init__(self, settings: Settings, query: str, topic: str, messages: Messages) -> None:
        self._settings = settings
        self._query = query
        self._topic = topic
        self._messages = messages
        self._options = spark_config(settings) | {
            "topic": topic,
            "kafka.acks": "all",
            "kafka.enable.idempotence": "true",
            "kafka.compression.type": "lz4",
            "kafka.max.request.size": str(MAX_MESSAGE_BYTES),
        }

    def setup(self) -> None:
        """Check that the topic is there. Raises SetupError when it is not, TransientError without Kafka."""
        check_topic(self._settings, self._topic)

    def write(self, batch: DataFrame) -> Written:
        """Send every row; returns once all are acknowledged."""
        started = monotonic()
        messages = batch.transform(self._messages)
        messages.write.format("kafka").options(**self._options).save()
        rows = messages.count()
        took = round(monotonic() - started, 3)
        _log.info("written", sink=self.name, query=self._query, topic=self._topic, rows=rows, seconds=took)
        return Written(rows, 0, 0)

    def reset(self) -> None:
        """Nothing is taken back from a topic: a rebuild sends every row again."""


def event_messages(key: Sequence[str], json_columns: Sequence[str]) -> Messages:
    """Silver rows → tenant|key and the row as JSON; `json_columns`, text in silver, are objects in it."""

    def apply(rows: DataFrame) -> DataFrame:
        plain = [F.col(name) for name in rows.columns if name not in json_columns]
        value = _with_members(F.to_json(F.struct(*plain), _JSON), json_columns)
        return rows.select(F.concat_ws("|", "tenant_id", *key).alias("key"), value.alias("value"))

    return apply


def _with_members(text: Column, names: Sequence[str]) -> Column:
    """One more member for each column; its text goes in as it is, so that no number is read and rounded."""
    members = [F.concat(F.lit(f',"{name}":'), F.coalesce(name, F.lit("null"))) for name in names]
    return F.concat(F.substring(text, F.lit(1), F.length(text) - 1), *members, F.lit("}"))


def letter_messages(streams: Sequence[str]) -> Messages:
    """Dead letters of these streams → tenant|dead_letter_id and the letter as JSON: payload and header values
    in base64, `payload_cut` where the table has not all of the record."""

    def apply(letters: DataFrame) -> DataFrame:
        mine = letters.where(F.col("stream").isin(*streams))
        value = F.to_json(F.struct("*", _is_cut().alias("payload_cut")), _JSON)
        key = F.concat_ws("|", F.coalesce("tenant_id", F.lit("")), "dead_letter_id")
        return mine.select(key.alias("key"), value.alias("value"))

    return apply


def _is_cut() -> Column:
    """The fingerprint is of the whole record (headwater.identity): what was cut has another."""
    codes = F.array_join(F.array_sort(F.array_distinct(F.transform("reasons", lambda r: r["code"]))), ",")
    kept = F.sha2(F.concat(F.encode(codes, "UTF-8"), F.lit(b"\0"), F.col("payload")), 256)
    long = F.octet_length("payload") >= LETTER_PAYLOAD_BYTES
    return F.coalesce(long & (kept != F.col("fingerprint")), F.lit(False))
