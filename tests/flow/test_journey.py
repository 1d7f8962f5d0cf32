"""silver.leads and silver.crm_* → what became of each captured lead, and how many came how far."""

from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from schemas.tables import CRM_CONTACTS, CRM_LEADS, CRM_OPPORTUNITIES, LEADS
from tests.flow.crm_rows import NOON, rows_of
from tests.flow.journey_set import LabelledSet, Row, labelled, precision_and_recall
from transformations.journey import SHARED_BY, funnel, journeys

ADA, OTHER = "ada@example.com", "a.lovelace@example.org"


def hour(number: float) -> dict[str, Any]:
    return {"event_time": NOON + timedelta(hours=number)}


def lead(name: str, email: str | None = ADA, at: float = 0, **said: Any) -> Row:
    when = hour(at)
    made = {"id": name, "event_id": f"event-{name}", "email": email, "received_at": when["event_time"]}
    return {**when, **made, "source": "web", **said}


def crm_lead(name: str, email: str | None = ADA, at: float = 1, by: str | None = None, **said: Any) -> Row:
    metadata = f'{{"correlationId": "{by}"}}' if by else None
    return {**hour(at), "lead_id": name, "email": email, "metadata": metadata, **said}


def contact(name: str, email: str | None = ADA, at: float = 2, by: str | None = None) -> Row:
    return {**hour(at), "contact_id": name, "email": email, "lead_id": by}


def deal(name: str, at: float = 3, event: str = "created", **said: Any) -> Row:
    kind = {"event_type": f"opportunity.{event}", "stage": event}
    return {**hour(at), **kind, "opportunity_id": name, **said}


def journey(spark: SparkSession, made: LabelledSet) -> DataFrame:
    return journeys(
        rows_of(spark, LEADS, made.leads),
        rows_of(spark, CRM_LEADS, made.crm_leads),
        rows_of(spark, CRM_CONTACTS, made.contacts),
        rows_of(spark, CRM_OPPORTUNITIES, made.deals),
    )


_TOLD = "lead_id reached crm_lead_id crm_lead_link contact_id contact_link opportunity_id opportunity_link"


def told(spark: SparkSession, made: LabelledSet) -> dict[str, list[str]]:
    """By tenant."""
    found: dict[str, list[str]] = {}
    for tenant, *row in journey(spark, made).orderBy("lead_id").select("tenant_id", *_TOLD.split()).collect():
        found.setdefault(tenant, []).append(" ".join("-" if value is None else value for value in row))
    return found


# Each case is a tenant of its own.
CASES: list[tuple[LabelledSet, list[str]]] = [
    # By ids all the way, whatever the addresses are.
    (
        LabelledSet(
            [lead("a")],
            [crm_lead("l", OTHER, by="a")],
            [contact("c", None, by="l")],
            [deal("o", contact_id="c"), deal("o", 4, "won", contact_id="c")],
        ),
        ["a won l id c lead_id o contact_id"],
    ),
    # The event's id names the lead, too; an opportunity may name the CRM's lead.
    (
        LabelledSet([lead("a")], [crm_lead("l", OTHER, by="event-a")], [], [deal("o", lead_id="l")]),
        ["a opportunity l id - - o lead_id"],
    ),
    # By the address where no id is named, or one that is not there.
    (
        LabelledSet([lead("a")], [crm_lead("l", by="lost")], [contact("c")], []),
        ["a contact l email c email - -"],
    ),
    (LabelledSet([lead("a")], [], [contact("c")], []), ["a contact - - c email - -"]),
    # Not across tenants, not by an address that nobody has.
    (
        LabelledSet([lead("a"), lead("b", None)], [crm_lead("l", tenant_id="globex"), crm_lead("m", None)]),
        ["a captured - - - - - -", "b captured - - - - - -"],
    ),
    # Of two captured leads with the address the last one before; an id goes before an address.
    (
        LabelledSet([lead("a"), lead("b", at=2), lead("c", at=9)], [crm_lead("l", at=3)]),
        ["a captured - - - - - -", "b crm_lead l email - - - -", "c captured - - - - - -"],
    ),
    (
        LabelledSet([lead("a"), lead("b", at=2)], [crm_lead("l", at=3, by="a")]),
        ["a crm_lead l id - - - -", "b captured - - - - - -"],
    ),
    # A lead is known to the CRM before it is captured.
    (LabelledSet([lead("a", at=5)], [crm_lead("l")]), ["a crm_lead l email - - - -"]),
    # Of two opportunities the one that was won.
    (
        LabelledSet(
            [lead("a")],
            [crm_lead("l", by="a")],
            [contact("c", by="l")],
            [deal("o", contact_id="c"), deal("p", 8, "won", lead_id="l"), deal("q", 9, "lost", lead_id="l")],
        ),
        ["a won l id c lead_id p lead_id"],
    ),
    # A newer event of the CRM's lead changes its address.
    (
        LabelledSet([lead("a")], [crm_lead("l", ADA), crm_lead("l", OTHER, 5)]),
        ["a captured - - - - - -"],
    ),
]


def test_a_lead_is_followed_by_ids_then_by_its_address(spark: SparkSession) -> None:
    all_of_them = LabelledSet()
    for number, (made, _) in enumerate(CASES):
        for name in ("leads", "crm_leads", "contacts", "deals"):
            mine = [{"tenant_id": f"case {number}", **row} for row in getattr(made, name)]
            getattr(all_of_them, name).extend(mine)
    found = told(spark, all_of_them)
    assert {number: found[f"case {number}"] for number in range(len(CASES))} == {
        number: expected for number, (_, expected) in enumerate(CASES)
    }


def test_an_address_that_many_share_makes_no_match(spark: SparkSession) -> None:
    crowd = [lead(f"a{number:02d}", at=number / 100) for number in range(SHARED_BY)]
    too_many = [{**row, "tenant_id": "globex"} for row in [*crowd, lead("b")]]
    things = [crm_lead("l"), crm_lead("l", tenant_id="globex")]
    found = told(spark, LabelledSet([*crowd, *too_many], things))
    assert [row for row in found["acme"] if "email" in row] == [f"a{SHARED_BY - 1} crm_lead l email - - - -"]
    assert [row for row in found["globex"] if "email" in row] == []


def test_a_day_of_a_campaign_counts_who_came_how_far(spark: SparkSession) -> None:
    made = LabelledSet(
        [
            lead("a", utm_campaign="spring"),
            lead("b", OTHER, utm_campaign="spring"),
            lead("c", None, utm_campaign="spring"),
            lead("d", None, at=24),
        ],
        [crm_lead("l", by="a"), crm_lead("m", OTHER)],
        [contact("c", by="l")],
        [deal("o", 30, "won", contact_id="c")],
    )
    rows = funnel(journey(spark, made)).orderBy("day").collect()
    counts = "captured crm_leads contacts opportunities won lost".split()
    assert [(r["day"], r["source"], r["campaign"], *[r[name] for name in counts]) for r in rows] == [
        (date(2026, 3, 1), "web", "spring", 3, 2, 1, 1, 1, 0),
        (date(2026, 3, 2), "web", "", 1, 0, 0, 0, 0, 0),
    ]


def test_of_a_labelled_set_nine_of_ten_matches_are_right_and_nine_of_ten_are_found(
    spark: SparkSession,
) -> None:
    made = labelled(people=2000, seed=11)
    rows = journey(spark, made).where("crm_lead_id IS NOT NULL").collect()
    found = {(row["tenant_id"], row["lead_id"], row["crm_lead_id"]) for row in rows}
    precision, recall = precision_and_recall(found, made)
    print(f"precision {precision:.3f}, recall {recall:.3f} of {len(made.truth)} matches")
    assert precision > 0.9 and recall > 0.9
    # By ids alone half of them would be missed.
    by_id = {
        (row["tenant_id"], row["lead_id"], row["crm_lead_id"]) for row in rows if row["crm_lead_link"] == "id"
    }
    assert precision_and_recall(by_id, made)[1] < 0.6
