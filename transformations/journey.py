"""silver.leads and silver.crm_* → gold.lead_journey, what became of each lead that was captured, and
gold.lead_funnel_daily, how many of a day's leads came how far.

Things of the CRM are matched by the ids that they name and, where they name none that is there, by the e-mail
address within the tenant. A thing belongs to one lead: of several whose address fits, to the one that was
captured last before the thing came. An address that many leads share says nothing of any.
"""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas.gold import LEAD_FUNNEL_DAILY, LEAD_JOURNEY
from transformations.kpi.base import gold_rows, lineage
from transformations.pipeline import LOST, OPEN, WON, pipeline

# So many captured leads may have an address that is still somebody's own.
SHARED_BY = 20
_TENANT = "tenant_id"
_TIMES = ("event_time", "ingested_at", "refined_at")
_PLACE = ("row_version", "source_topic", "source_partition", "source_offset")


@dataclass(frozen=True)
class Link:
    """What makes a match: a column of the lead's way so far, and one of the thing."""

    name: str
    ours: str
    theirs: str


def journeys(leads: DataFrame, crm_leads: DataFrame, contacts: DataFrame, deals: DataFrame) -> DataFrame:
    """Rows of silver, all of a tenant's → rows of gold.lead_journey, one for each captured lead.

    Null rule: what a lead has not come to is null, and so is what its event did not say.
    """
    ways = _captured(leads)
    ways = _match(ways, _things(crm_leads, "crm_lead", "lead_id", _CRM_LEAD), "crm_lead", _CRM_LEAD_LINKS)
    ways = _match(ways, _things(contacts, "contact", "contact_id", _CONTACT), "contact", _CONTACT_LINKS)
    ways = _match(ways, _deals(deals), "opportunity", _DEAL_LINKS)
    newest = F.greatest("newest", "crm_lead_newest", "contact_newest", "opportunity_newest")
    times = {name: F.greatest(*[f"{of}{name}" for of in _OF]) for name in _TIMES}
    made = ways.withColumns({**times, "place": newest, "reached": _reached()})
    made = made.withColumns({name: F.col("place")[name] for name in _PLACE[1:]})
    return made.transform(gold_rows(LEAD_JOURNEY, "captured_at"))


def funnel(journey: DataFrame) -> DataFrame:
    """Rows of gold.lead_journey → rows of gold.lead_funnel_daily. Each count is of those that came so far or
    further."""
    key = {
        "day": F.to_date("captured_at"),
        "source": F.coalesce("source", F.lit("")),
        "campaign": F.coalesce("campaign", F.lit("")),
    }
    came = F.array_position(F.lit(list(_STEPS)), F.col("reached"))
    counts = {
        "captured": F.lit(True),
        "crm_leads": came > 1,
        "contacts": came > 2,
        "opportunities": came > 3,
        "won": F.col("reached") == WON,
        "lost": F.col("reached") == LOST,
    }
    named = [F.count_if(counted).alias(name) for name, counted in counts.items()]
    counted = journey.withColumns(key).groupBy(_TENANT, *key).agg(*named, *lineage())
    return counted.transform(gold_rows(LEAD_FUNNEL_DAILY, "day"))


_STEPS = ("captured", "crm_lead", "contact", "opportunity", WON, LOST)
_OF = ("", "crm_lead_", "contact_", "opportunity_")
# Columns of a thing besides its id: name → aggregate over its rows in silver.
_CRM_LEAD = {"email": "email", "said_id": "get_json_object(metadata, '$.correlationId')"}
_CONTACT = {"email": "email", "said_id": "lead_id"}
_CRM_LEAD_LINKS = (
    Link("id", "lead_id", "said_id"),
    Link("id", "event_id", "said_id"),
    Link("email", "email", "email"),
)
_CONTACT_LINKS = (Link("lead_id", "crm_lead_id", "said_id"), Link("email", "email", "email"))
_DEAL_LINKS = (Link("contact_id", "contact_id", "said_contact"), Link("lead_id", "crm_lead_id", "said_lead"))


def _captured(leads: DataFrame) -> DataFrame:
    """Captured leads, once each, with their addresses that are theirs."""
    newest = F.max_by(F.struct("event_id", "received_at", "source", "utm_campaign", "email"), "row_version")
    once = leads.groupBy(_TENANT, F.col("id").alias("lead_id")).agg(newest.alias("said"), *_seen())
    named = {
        "event_id": F.col("said.event_id"),
        "captured_at": F.col("said.received_at"),
        "source": F.col("said.source"),
        "campaign": F.col("said.utm_campaign"),
    }
    shared = F.count("*").over(Window.partitionBy(_TENANT, "said.email"))
    own = F.when(shared <= SHARED_BY, F.col("said.email"))
    return once.withColumns({**named, "email": own}).drop("said")


def _things(rows: DataFrame, kind: str, key: str, said: dict[str, str]) -> DataFrame:
    """Leads or contacts of the CRM, once each: of each column the newest that was said."""
    latest = [
        F.max_by(F.expr(text), F.when(F.expr(text).isNotNull(), F.col("row_version"))).alias(name)
        for name, text in said.items()
    ]
    once = rows.groupBy(_TENANT, F.col(key).alias(f"{kind}_id"))
    return once.agg(F.min("event_time").alias(f"{kind}_at"), *latest, *_seen(f"{kind}_"))


def _deals(rows: DataFrame) -> DataFrame:
    """Opportunities as they are now, the won ones first."""
    renamed = {
        "said_contact": F.col("contact_id"),
        "said_lead": F.col("lead_id"),
        "opportunity_at": F.col("opened_at"),
        "opportunity_newest": F.struct(*_PLACE),
        "prefer": F.when(F.col("status") == WON, 0).when(F.col("status") == OPEN, 1).otherwise(2),
        **{f"opportunity_{name}": F.col(name) for name in _TIMES},
    }
    wanted = (_TENANT, "opportunity_id", "status", "amount", "currency", "closed_at")
    return rows.transform(pipeline).withColumns(renamed).select(*wanted, *renamed)


def _seen(of: str = "") -> list[Column]:
    """Aggregates: what the lineage of a journey is made of."""
    times = [F.max(name).alias(f"{of}{name}") for name in _TIMES]
    return [*times, F.max(F.struct(*_PLACE)).alias(f"{of}newest")]


def _match(ways: DataFrame, things: DataFrame, kind: str, links: tuple[Link, ...]) -> DataFrame:
    """The ways, each with the thing that fits it best; with nulls where none does.

    A way is read once, and so is a thing: each stands once for each link, and they meet in one join.
    """
    key, at = f"{kind}_id", f"{kind}_at"
    ours = ways.withColumn("link", F.explode(_ends([link.ours for link in links])))
    ends = _ends([link.theirs for link in links])
    theirs = things.withColumn("link", F.explode(ends)).drop(*{link.theirs for link in links})
    met = ours.join(theirs.where("link.same IS NOT NULL"), [_TENANT, "link"], "left")
    # Of the ways that a thing could belong to the nearest has it; an id goes before an address.
    after_it = F.col("captured_at") > F.col(at)
    apart = F.abs(F.unix_micros(at) - F.unix_micros("captured_at"))
    nobody = F.when(F.col(key).isNull(), F.col("lead_id"))
    nearest = Window.partitionBy(_TENANT, key, nobody).orderBy("link.rank", after_it, apart, "lead_id")
    met = met.withColumn("fits", F.col(key).isNotNull() & (F.row_number().over(nearest) == 1))
    prefer = [name for name in things.columns if name == "prefer"]
    order: list[Column | str] = [F.desc("fits"), *prefer, "link.rank", at, key]
    best = Window.partitionBy(_TENANT, "lead_id").orderBy(*order)
    first = met.withColumn("nth", F.row_number().over(best)).where(F.col("nth") == 1)
    names = F.array(*[F.lit(link.name) for link in links])
    said = {
        name: F.when(F.col("fits"), F.col(name)) for name in theirs.columns if name not in (_TENANT, "link")
    }
    said[f"{kind}_link"] = F.when(F.col("fits"), F.get(names, F.col("link.rank")))
    return first.withColumns(said).drop("link", "fits", "nth", "prefer")


def _ends(columns: list[str]) -> Column:
    """What each link is looked up by, on one of its sides."""
    return F.array(
        *[F.struct(F.lit(rank).alias("rank"), F.col(name).alias("same")) for rank, name in enumerate(columns)]
    )


def _reached() -> Column:
    came = F.when(F.col("status").isin(WON, LOST), F.col("status"))
    came = came.when(F.col("opportunity_id").isNotNull(), "opportunity")
    came = came.when(F.col("contact_id").isNotNull(), "contact")
    return came.when(F.col("crm_lead_id").isNotNull(), "crm_lead").otherwise("captured")
