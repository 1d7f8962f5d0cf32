"""Dead letters are sent again, on a real broker and PostgreSQL: what a plan says, and what comes of it."""

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pyspark.sql import SparkSession

from headwater.errors import HeadwaterError, QualityError, SetupError
from headwater.tables import append_once
from jobs import replay_letters, replay_send
from jobs.audit import audit
from jobs.build import Build
from jobs.ingest import Ingest
from jobs.queries import Context
from jobs.refine import Refine
from jobs.rejects import rejected_letters
from jobs.replay import Order, Replaying, replay
from jobs.runtime import Runtime
from local.postgres import dsn
from sinks.base import Rejected
from sources.letters.settle import discard
from sources.letters.wanted import Wanted
from tests.integration.jobs_harness import Sent, World, good
from tests.integration.lake import Row

THEN = datetime.now(UTC) - timedelta(hours=3)
USAGE, TOOLS, TURNS = "billing.usage.metered", "agent.tool.invoked", "text.agent.turn.completed"
MEND = [{"op": "replace", "path": "/quantity", "value": 2.50}]
POSITIVE = Wanted(stream=USAGE, reason="rule:minimum")


def used(name: str, quantity: float, metric: str = "api_calls") -> Sent:
    event = {"event_id": name, "account_id": "acme", "metric": metric, "quantity": quantity}
    value = json.dumps(event | {"ts_ms": int(THEN.timestamp() * 1000)}).encode()
    return Sent(value, tenant="acme", key=name, topic=USAGE, headers=(("trace", b"t1"),))


def called(name: str, status: str = "ok") -> Sent:
    event = {"event_id": name, "account_id": "acme", "session_id": "s", "turn_id": "t", "tool_name": "search"}
    more = {"status": status, "duration_ms": 5, "ts_ms": int(THEN.timestamp() * 1000)}
    return Sent(json.dumps(event | more).encode(), tenant="acme", key=name, topic=TOOLS)


def turned(name: str, tokens_in: int, days: int) -> Sent:
    then = THEN - timedelta(days=3 - days)
    event = {"event_id": name, "account_id": "acme", "session_id": "s", "turn_id": name, "user_id": "u"}
    more = {"channel": "web", "model": "m", "tokens_in": tokens_in, "tokens_out": 1, "latency_ms": 5}
    value = json.dumps(event | more | {"ts_ms": int(then.timestamp() * 1000)}).encode()
    return Sent(value, tenant="acme", key=f"s|{name}", topic=TURNS)


class Lake:
    """The domain's jobs, taken in turn, on a lake of the test's own."""

    def __init__(self, spark: SparkSession, world: World) -> None:
        self.spark, self.world, self.settings = spark, world, world.settings

    def context(self) -> Context:
        return Context(self.spark, self.settings, f"test-{uuid.uuid4()}")

    def take(self, *events: Sent, built: Sequence[str] = ("usage",)) -> None:
        """Send them; then ingest, refine and build all there is."""
        self.world.send(list(events))
        context = self.context()
        works = (Ingest(context, "interactions"), Refine(context, "interactions"))
        for work in (*works, *(Build(context, table) for table in built)):
            Runtime(context, once=True).run([work])

    def turns(self, *events: Sent) -> None:
        """The same of turns."""
        self.take(*events, built=("agent_turns",))

    def replay(self, wanted: Wanted = POSITIVE, **order: Any) -> dict[str, Any]:
        return replay(self.context(), Order(wanted, why="a test", **order))

    def rows(self, table: str) -> list[Row]:
        return self.world.table(table)

    def gold(self, table: str, *names: str) -> list[Row]:
        return [{name: row[name] for name in names} for row in self.rows(table)]

    def letters(self) -> list[Row]:
        return self.rows("ops.dead_letters")

    def sent_again(self) -> Counter[str]:
        """How often a record that says so is in bronze, by the letter it was."""
        found: Counter[str] = Counter()
        for row in self.rows("bronze.interactions"):
            said = {header["key"]: header["value"] for header in row["headers"] or ()}
            found.update([said["replay_of"].decode()] if "replay_of" in said else [])
        return found


@pytest.fixture
def lake(spark: SparkSession, world: World) -> Iterator[Lake]:
    made = Lake(spark, world)
    made.take(used("u1", 1), used("u2", -1), used("u3", -2, "tokens_in"), called("c1"))
    yield made


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    file = tmp_path / "patch.json"
    file.write_text(json.dumps(MEND))
    return file


def quantities(lake: Lake) -> dict[str, str]:
    return {row["metric"]: str(row["quantity"]) for row in lake.rows("gold.billing_usage")}


def test_a_plan_says_what_comes_of_it_and_it_is_done_once(lake: Lake, patch: Path) -> None:
    told = lake.replay(patch=patch)
    plan = told["plan"]
    assert (plan["letters"], plan["sent"], plan["passes"], plan["fails"]) == (2, 2, 2, {})
    assert plan["silver"] == {"silver.usage": 2}
    assert plan["sinks"] == {"interactions.postgres": 2}
    moved = plan["gold"]["gold.billing_usage"]["moved"]
    said = [
        (row["key"]["metric"], row["before"] and row["before"]["quantity"], row["after"]["quantity"])
        for row in moved
    ]
    assert said == [("api_calls", "1.000000", "3.500000"), ("tokens_in", None, "2.500000")]
    assert quantities(lake) == {"api_calls": "1.000000"}
    assert not lake.sent_again()

    number = uuid.UUID(told["replay_id"])
    assert lake.replay(Wanted(), apply=number)["applied"] == {"sent": 2, "refused_again": 0}
    assert lake.replay(Wanted(), apply=number)["applied"] == {"sent": 2, "refused_again": 0}
    lake.take()
    assert quantities(lake) == {"api_calls": "3.500000", "tokens_in": "2.500000"}
    for table, found in plan["gold"].items():
        after = [{**row["key"], **row["after"]} for row in found["moved"]]
        names = list(after[0])
        now = json.loads(json.dumps(lake.gold(table, *names), default=str))
        assert all(row in now for row in after), table
    assert {row["status"] for row in lake.letters()} == {"replayed"}
    assert set(lake.sent_again().values()) == {1}
    assert lake.replay(patch=patch)["plan"]["letters"] == 0
    assert audit(lake.context(), "interactions")[USAGE]["unexplained"] == 0


def test_a_plan_is_refused_when_the_data_has_moved(lake: Lake, patch: Path) -> None:
    number = uuid.UUID(lake.replay(patch=patch)["replay_id"])
    lake.take(used("u9", 5))  # of the hour whose sum the plan tells
    with pytest.raises(QualityError, match="moved since it was planned"):
        lake.replay(Wanted(), apply=number)
    with pytest.raises(QualityError, match="is refused"):
        lake.replay(Wanted(), apply=number)
    lake.take()
    assert not lake.sent_again()
    assert {row["status"] for row in lake.letters()} == {"new"}


def test_what_was_cut_off_is_done_to_the_end_and_nothing_twice(
    lake: Lake, patch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ("before_write", "task", "after_write", "before_commit")
    lake.take(*[used(f"{point}{number}", -1) for point in points for number in range(2)])
    monkeypatch.setattr(replay_send, "_AT_ONCE", 1)
    for point in points:
        mine = [row for row in lake.letters() if point.encode() in row["payload"]]
        wanted = Wanted(ids=tuple(row["dead_letter_id"] for row in mine))
        number = uuid.UUID(lake.replay(wanted, patch=patch)["replay_id"])

        def cut(_: str, here: str, point: str = point) -> None:
            if here == point:
                raise HeadwaterError("power cut")

        with monkeypatch.context() as patched, pytest.raises(HeadwaterError, match="power cut"):
            patched.setattr(replay_send, "fail_at", cut)
            lake.replay(Wanted(), apply=number)
        assert lake.replay(Wanted(), apply=number)["applied"] == {"sent": 2, "refused_again": 0}
    lake.take()
    replayed = {row["dead_letter_id"]: 1 for row in lake.letters() if row["status"] == "replayed"}
    assert (len(replayed), lake.sent_again()) == (8, replayed)
    assert quantities(lake) == {"api_calls": "21.000000"}


def test_what_is_not_sent_after_all_does_not_count_as_sent(
    lake: Lake, patch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: str, here: str) -> None:
        if here == "before_write":
            raise HeadwaterError("power cut")

    number = uuid.UUID(lake.replay(patch=patch)["replay_id"])
    with monkeypatch.context() as patched, pytest.raises(HeadwaterError, match="power cut"):
        patched.setattr(replay_send, "fail_at", cut)
        lake.replay(Wanted(), apply=number)
    first, second = (row["dead_letter_id"] for row in lake.letters())
    assert discard(lake.settings, [first]) == 1
    assert lake.replay(Wanted(), apply=number)["applied"] == {"sent": 1, "refused_again": 0}
    statuses = {row["dead_letter_id"]: row["status"] for row in lake.letters()}
    assert statuses == {first: "discarded", second: "replayed"}


def test_a_conversation_that_goes_on_for_days_is_counted_as_build_counts_it(lake: Lake) -> None:
    lake.turns(turned("t1", 10, days=0), turned("t2", -20, days=2))
    file = lake.world.folder / "patch.json"
    file.write_text('[{"op": "replace", "path": "/tokens_in", "value": 20}]')
    plan = lake.replay(Wanted(stream=TURNS), patch=file, yes=True)["plan"]
    (moved,) = plan["gold"]["gold.session_kpis"]["moved"]
    told = [(moved[when]["turns"], moved[when]["tokens_in"]) for when in ("before", "after")]
    assert told == [(1, 10), (2, 30)]
    assert plan["sinks"] == {"interactions.postgres": 2, "interactions.redis": 1}
    lake.turns()
    names = [*moved["key"], *moved["after"]]
    (now,) = json.loads(json.dumps(lake.gold("gold.session_kpis", *names), default=str))
    assert now == {**moved["key"], **moved["after"]}


def test_an_event_that_silver_has_is_told_and_becomes_a_duplicate(lake: Lake) -> None:
    lake.take(called("c1", "odd"), called("c2", "odd"), called("c2", "odd"))
    file = lake.world.folder / "patch.json"
    file.write_text('[{"op": "replace", "path": "/status", "value": "error"}]')
    plan = lake.replay(Wanted(stream=TOOLS), patch=file, yes=True)["plan"]
    assert (plan["sent"], plan["passes"], plan["duplicates"]) == (3, 1, 2)
    lake.take()
    assert sorted(row["event_id"] for row in lake.rows("silver.tool_invocations")) == ["c1", "c2"]
    assert audit(lake.context(), "interactions")[TOOLS]["unexplained"] == 0


def test_what_fails_again_names_its_letter_and_is_not_sent_for_ever(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_letters, "MAX_TIMES", 2)
    first = next(row for row in lake.letters() if b'"u2"' in row["payload"])
    last = first["dead_letter_id"]
    for count in (1, 2):
        plan = lake.replay(Wanted(ids=(last,)), yes=True)["plan"]
        assert (plan["fails"], plan["passes"]) == ({"rule:minimum": 1}, 0)
        lake.take()
        (again,) = [row for row in lake.letters() if row["replay_of"] == last]
        assert (again["replay_count"], again["status"]) == (count, "new")
        assert {"key": "trace", "value": b"t1"} in again["headers"]
        last = again["dead_letter_id"]
    plan = lake.replay(Wanted(ids=(last,)))["plan"]
    assert (plan["sent"], plan["skipped"]) == (0, {"loop_limit": 1})


def test_an_unknown_letter_and_one_that_is_not_new_are_told(spark: SparkSession, world: World) -> None:
    lake = Lake(spark, world)
    with pytest.raises(SetupError, match="no dead letter has the id"):
        lake.replay(Wanted(ids=("0" * 64,)))
    with pytest.raises(SetupError, match="only new letters"):
        lake.replay(Wanted(status="discarded"))
    with pytest.raises(SetupError, match="there is no replay"):
        lake.replay(Wanted(), apply=uuid.uuid4())


def test_what_is_asked_for_over_http_is_planned_and_once_approved_done(lake: Lake) -> None:
    number = uuid.uuid4()
    api = dsn("headwater_api", "postgres-api", lake.world.name)
    with psycopg.connect(api, autocommit=True) as connection:
        names = "replay_id, tenant_id, author, why, wanted, patch, patch_sha256"
        row = (
            number,
            "acme",
            "key:ops",
            "a test",
            json.dumps(Wanted(tenant="acme", stream=USAGE).given),
            json.dumps(MEND),
            "0" * 64,
        )
        asked = sql.SQL("INSERT INTO analytics.replays ({}) VALUES (%s, %s, %s, %s, %s, %s, %s)")
        connection.execute(asked.format(sql.SQL(names)), row)

        def state() -> tuple[Any, ...]:
            found = connection.execute(
                "SELECT status, plan->>'passes', result FROM analytics.replays WHERE replay_id = %s",
                (number,),
            ).fetchone()
            assert found
            return tuple(found)

        loop = Replaying(lake.context(), "interactions")
        loop.prepare()
        assert loop.step() == 1
        assert state() == ("planned", "2", None)
        assert loop.step() == 0
        approve = "SELECT analytics.approve_replay(%s, %s, 'key:ops')"
        assert connection.execute(approve, (number, "globex")).fetchone() == (False,)
        assert connection.execute(approve, (number, "acme")).fetchone() == (True,)
        assert loop.step() == 1
        assert state() == ("applied", "2", {"sent": 2, "refused_again": 0})
        loop.close()
    lake.take()
    assert quantities(lake) == {"api_calls": "3.500000", "tokens_in": "2.500000"}


def test_a_row_that_a_destination_has_refused_goes_back_to_that_one_alone(
    spark: SparkSession, world: World
) -> None:
    (place,) = world.send([good("acme", "a")])
    context = Context(spark, world.settings, "test")
    for work in (Ingest(context, "leads"), Refine(context, "leads")):
        Runtime(context, once=True).run([work])
    refused = [Rejected(*place, "acme", "23514", "leads_email_check")]
    letters = rejected_letters(context, "leads", "postgres", refused)
    append_once(letters, world.settings, "ops.dead_letters", "test", 0)
    told = replay(context, Order(Wanted(stage="sink:postgres"), yes=True, why="the constraint is gone"))
    assert (told["plan"]["back"], told["plan"]["sinks"]) == (1, {"leads.postgres": 1})
    assert told["applied"] == {"sent": 1, "refused_again": 0}
    assert list(world.postgres()) == [("acme", "a")]
    assert {row["status"] for row in world.table("ops.dead_letters")} == {"replayed"}
    with world.elasticsearch() as client:
        assert not client.indices.exists(index=f"{world.prefix}leads")
    assert len(world.table("bronze.leads")) == 1
