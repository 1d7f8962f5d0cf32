"""lead.ingest: outcome rows of valid events → silver.leads, in the table's order.

`id` is made from tenant and idempotency key, so that silver, PostgreSQL and Elasticsearch agree on it;
`event_id` is the producer's, or the same when there was none. A phone number or address that is not one is
stored null, the original kept in `extras` under its pointer.
"""

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transformations.columns import event_uuid, utm_parameter
from transformations.enrich import enrichment

UTM = ("source", "medium", "campaign", "content", "term")


def normalise_leads(geo_database: str | None) -> Callable[[DataFrame], DataFrame]:
    """Outcome rows with outcome silver → rows of silver.leads. Null rule: what was not said stays null."""
    look_up = enrichment(geo_database)

    facts = look_up(_field("/payload/phone"), _field("/context/ip_address"), _field("/context/user_agent"))
    # Made once: some hundred calls into the JVM, which every small batch would feel.
    columns = [*_identity(), *_person(), *_campaign(), *_lineage()]

    def apply(outcomes: DataFrame) -> DataFrame:
        return outcomes.where(F.col("outcome") == "silver").withColumn("facts", facts).select(*columns)

    return apply


def _field(pointer: str) -> Column:
    return F.col("event").getField(pointer)


def _identity() -> list[Column]:
    made = event_uuid(F.col("tenant_id"), _field("/idempotency_key"))
    return [
        made.alias("id"),
        F.coalesce(F.lower(_field("/event_id")), made).alias("event_id"),
        _field("/idempotency_key").alias("idempotency_key"),
        _field("/source").alias("source"),
        _field("/received_at").alias("received_at"),
    ]


def _person() -> list[Column]:
    payload = [_field(f"/payload/{name}").alias(name) for name in ("first_name", "last_name")]
    rest = [_field(f"/payload/{name}").alias(name) for name in ("message", "submission_type", "consent")]
    facts = F.col("facts")
    return [
        *payload,
        F.lower(_field("/payload/email")).alias("email"),
        facts["phone"].alias("phone"),
        *rest,
        facts["ip"].alias("ip_address"),
        _field("/context/user_agent").alias("user_agent"),
        facts["country"].alias("geo_country"),
        facts["city"].alias("geo_city"),
        *[facts[name].alias(name) for name in ("device", "browser", "os")],
    ]


def _campaign() -> list[Column]:
    page = _field("/context/page_url")
    utm = [F.coalesce(_field(f"/context/utm/{n}"), utm_parameter(page, n)).alias(f"utm_{n}") for n in UTM]
    return [*utm, _field("/metadata").alias("metadata")]


def _lineage() -> list[Column]:
    return [
        F.col("tenant_id"),
        F.col("row_version"),
        F.col("event_time"),
        F.col("ingested_at"),
        F.col("refined_at"),
        F.col("topic").alias("source_topic"),
        F.col("partition").alias("source_partition"),
        F.col("offset").alias("source_offset"),
        _extras().alias("extras"),
    ]


def _extras() -> Column:
    """Unknown fields and the values that were stored null, as one JSON object; null when there is nothing."""
    unread = {"/payload/phone": F.col("facts")["phone"], "/context/ip_address": F.col("facts")["ip"]}
    lost = F.create_map(
        *[part for p, fact in unread.items() for part in (F.lit(p), F.when(fact.isNull(), _field(p)))]
    )
    kept = F.map_filter(lost, lambda _, value: value.isNotNull())
    both = F.map_concat(_variants(F.coalesce("extras", F.lit("{}"))), _variants(F.to_json(kept)))
    return F.when(F.size(kept) == 0, F.col("extras")).otherwise(F.to_json(both))


def _variants(text: Column) -> Column:
    return F.from_json(text, "map<string,variant>")
