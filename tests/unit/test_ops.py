"""What operators are shown, without a server: sums, rates, charts, plans, forms, and that text stays text."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from api.lately import Lately
from api.ops import Books, Refused, rates
from api.page.areas import OPS, UPLOADS
from api.page.ops import by_domain
from api.page.ops_charts import HEIGHT, WIDTH, points, trends
from api.page.order_form import body_of
from api.page.plans import filter_of, moves
from api.page.render import html_of
from api.page.visit import Visitor
from api.page.words import refusal_of
from api.problems import Problem
from headwater.settings import Settings, load_settings
from headwater.tables import table_path
from sources import ledger, quality_trend
from sources.ledger import OUTCOMES, Balance, Entry, balances
from sources.letters.groups import Group
from sources.quality_trend import Run
from tests.integration.ops_harness import LEDGER, entry
from tests.letters import lake_settings
from tests.replays import PLAN
from tests.unit.test_page import MOMENT, TEXTS, Tags, visitor

OPERATOR = ("jobs:read", "dlq:read", "dlq:replay", "quality:read")


def operator(*scopes: str) -> Visitor:
    found = visitor(*(scopes or OPERATOR))
    return Visitor(found.principal, found.session, OPS)


def counted(stream: str, in_rows: int, *outcomes: int, ago_s: float = 0, tenant: str = "acme") -> Entry:
    full = (*outcomes, *[0] * (len(OUTCOMES) - len(outcomes)))
    return Entry(stream, tenant, MOMENT - timedelta(seconds=ago_s), in_rows, full)


# The ledger


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return lake_settings(tmp_path)


def entered(lake: Settings, *rows: dict[str, Any]) -> None:
    write_deltalake(table_path(lake, "ops.ledger"), pa.Table.from_pylist(list(rows), LEDGER), mode="append")


def test_sums_are_by_stream_and_say_what_is_missing() -> None:
    found = balances([counted("b", 10, 4, 3, 2), counted("a", 5, 6), counted("b", 1, 1)])
    assert [(one.stream, one.in_rows, one.missing) for one in found] == [("a", 5, -1), ("b", 11, 1)]
    assert (found[1].outcomes["silver"], found[1].outcomes["duplicate"], found[1].outcomes["dead"]) == (
        5,
        3,
        2,
    )


def test_rates_are_those_of_the_last_five_minutes() -> None:
    entries = [counted("a", 600, ago_s=10), counted("a", 900, ago_s=400), counted("b", 30, ago_s=301)]
    assert rates(entries, MOMENT) == {"a": 2.0, "b": 0.0}


def test_only_new_files_of_refine_in_the_span_are_read_the_newest_first(lake: Settings) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    assert ledger.look(lake, since, (), 9) == ledger.Look((), {}, True)
    for number, ago_s in enumerate((7200, 600, 300, 5)):
        entered(lake, entry("acme", ago_s, number, in_rows=number, silver=number))
    entered(lake, entry("acme", 1, 4, in_rows=99) | {"query": "ingest.leads"})
    first = ledger.look(lake, since, (), 2)
    assert [e.in_rows for path in first.paths for e in first.read.get(path, ())] == [3, 2]
    assert (len(first.paths), first.whole) == (3, False)
    second = ledger.look(lake, since, {*first.read}, 2)
    assert [e.in_rows for found in second.read.values() for e in found] == [1]
    assert (second.paths, second.whole) == (first.paths, True)


def test_a_ledger_from_before_a_column_has_none_of_it(lake: Settings) -> None:
    rows = pa.Table.from_pylist([entry("acme", 1, 0, in_rows=2, silver=2)], LEDGER).drop_columns(["filtered"])
    write_deltalake(table_path(lake, "ops.ledger"), rows)
    (found,) = ledger.look(lake, datetime.now(UTC) - timedelta(hours=1), (), 9).read.values()
    assert balances(found)[0].outcomes["filtered"] == 0


# Quality


def run(table: str, days_ago: int, share: float) -> Run:
    return Run(table, "s", MOMENT - timedelta(days=days_ago), share == 1, 10, 0, share)


def test_without_the_table_there_is_no_report(lake: Settings) -> None:
    assert quality_trend.runs(lake, MOMENT) is None


def test_runs_are_read_by_their_columns_names_and_those_without_a_share_are_left_out(lake: Settings) -> None:
    moments = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 3, 2)]
    rows = pa.table({
        "more": ["x"] * 3, "pass_share": [0.5, 1.0, None], "table": ["silver.leads"] * 3,
        "started_at": pa.array(moments, pa.timestamp("us", tz="UTC")), "passed": [False, True, None],
    })  # fmt: skip
    write_deltalake(table_path(lake, "ops.quality_runs"), rows)
    found = quality_trend.runs(lake, moments[0])
    assert found is not None
    assert [(one.started_at, one.share, one.passed) for one in found] == [
        (moments[0], 0.5, False), (moments[1], 1.0, True),
    ]  # fmt: skip
    later = quality_trend.runs(lake, moments[1])
    assert later is not None and len(later) == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_line_stays_within_its_picture(shares: list[float]) -> None:
    found = [tuple(map(float, p.split(","))) for p in points([run("t", 0, s) for s in shares]).split()]
    assert len(found) == len(shares)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in found)
    assert [x for x, _ in found] == sorted(x for x, _ in found)


def test_each_table_has_a_line_that_ends_with_its_last_run() -> None:
    first, second = trends([run("b", 2, 0.5), run("a", 1, 1.0), run("b", 0, 1.0)])
    assert (first.table, second.table, second.last.share, second.end) == ("a", "b", 1.0, ("157.0", "3.0"))


# Replays


def test_a_plan_tells_of_each_row_what_moves() -> None:
    moved = [
        {"key": {"a": 1}, "before": {"x": 1, "y": "z"}, "after": {"x": 2.5, "y": "z"}},
        {"key": {"a": 2, "b": "c"}, "before": None, "after": {"x": 3}},
        {"key": {"a": 3}, "before": {"x": 4}, "after": None},
    ]
    found = [(one.key, one.kind, one.fields) for one in moves({"keys": 3, "moved": moved})]
    assert found == [
        ("a 1", "changed", (("x", "1", "2.5"),)),
        ("a 2, b c", "new", (("x", "—", "3"),)),
        ("a 3", "gone", (("x", "4", "—"),)),
    ]


def test_a_filter_is_told_without_the_tenant() -> None:
    assert filter_of({"tenant": "acme", "reason": "empty"}) == {"reason": "empty"}
    assert filter_of({"tenant": "acme", "ids": ["x"]}) == {"ids": "x"}
    assert filter_of({"tenant": "acme", "ids": ["x", "y"]}) == {"ids": "2 by their ids"}


def test_a_form_asks_for_one_letter_or_for_a_group() -> None:
    one = {"csrf": "t", "id": "x", "why": " mended ", "reason": "ignored", "patch": " "}
    assert json.loads(body_of(one)) == {"ids": ["x"], "why": "mended"}
    group = {"csrf": "t", "reason": "empty", "since": "2026-03-01", "unknown": "x", "patch": '[{"op": "é"}]'}
    assert json.loads(body_of(group)) == {
        "filter": {"reason": "empty", "since": "2026-03-01"}, "why": "", "patch": [{"op": "é"}],
    }  # fmt: skip


@given(st.text())
def test_whatever_is_written_as_a_patch_is_json_or_a_refusal(text: str) -> None:
    try:
        body = body_of({"id": "x", "why": "y", "patch": text})
    except Problem as refusal:
        assert refusal.status == 422
    else:
        assert ("patch" in json.loads(body)) == bool(text.strip())


# What is shown


def replay(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "replay_id": UUID(int=1), "author": "key:a", "why": "x", "wanted": {"tenant": "acme", "reason": "r"},
        "patch": None, "patch_sha256": None, "status": "planned", "plan": PLAN, "approved_by": None,
        "result": None, "error": None, "created_at": MOMENT, "planned_at": MOMENT, "approved_at": None,
        "ended_at": None,
    }  # fmt: skip
    return base | changes


def replay_html(shown: dict[str, Any], *scopes: str) -> str:
    return html_of("ops_replay_part.html", operator(*scopes), replay=shown, open=True)


@pytest.mark.parametrize("status", ["requested", "planned", "approved", "applied", "refused", "failed"])
def test_every_state_of_a_replay_has_a_page_and_one_has_a_button(status: str) -> None:
    plan = None if status == "requested" else PLAN
    page = replay_html(replay(status=status, plan=plan, approved_by="key:b", error="why"))
    assert ("/apply" in page) == (status == "planned")
    assert "/apply" not in replay_html(replay(status=status, plan=plan), "dlq:read")


@given(TEXTS.filter(str.strip))
@examples(max_examples=30)
def test_what_letters_plans_and_people_say_is_text_and_nothing_else(text: str) -> None:
    def told(text: str) -> list[str]:
        moved = [{"key": {text: text}, "before": {"x": text}, "after": {"x": 1}}]
        plan = PLAN | {
            "fails": {text: 1}, "sinks": {text: 1}, "gold": {text: {"keys": 1, "moved": moved}},
            "worked_out_again": [text], "code_version": text, "contract_versions": {text: text},
        }  # fmt: skip
        patch = [{"op": "add", "path": text, "value": text}]
        part = replay_html(replay(plan=plan, why=text, error=text, author=text, patch=patch))
        group = Group((text, text), 1, MOMENT, MOMENT, "e")
        letters = {"id": "letters", "title": "t", "refused": Refused(MOMENT, [group]), "span": "24h"}
        return Tags(part).names + Tags(html_of("ops_letters.html", operator(), **letters)).names

    assert told(text) == told("plain")


def test_queries_are_told_by_domain_in_the_order_of_the_flow() -> None:
    names = (
        "deliver.leads.dlq",
        "compact.leads",
        "ingest.leads",
        "build.leads",
        "refine.leads",
        "ingest.crm",
    )
    queries = [{"query": name, "domain": name.split(".")[1]} for name in names]
    assert [[q["query"] for q in found] for found in by_domain(queries).values()] == [
        ["ingest.crm"],
        ["ingest.leads", "refine.leads", "build.leads", "deliver.leads.dlq", "compact.leads"],
    ]


def test_a_balance_that_is_off_is_told_in_words_and_figures() -> None:
    whole = dict.fromkeys(OUTCOMES, 0)
    books = Books([Balance("a", 1200, whole | {"silver": 1})], {"a": 0.5}, True)
    page = html_of("ops_balance.html", operator(), id="balance", title="t", books=books, span="1h")
    assert "1,199 records are unaccounted for" in Tags(page).words and "off by 1,199" in Tags(page).words


@pytest.mark.parametrize(("area", "says"), [(UPLOADS, "no such import"), (OPS, "no such thing")])
def test_each_area_has_its_own_words(area: Any, says: str) -> None:
    assert says in refusal_of(Problem(404, "not_found"), load_settings("staging"), area).title


@pytest.mark.parametrize(
    ("after", "leads"),
    [
        ("/ops/letters", "/ops/letters"),
        (f"/ops/replays/{UUID(int=1)}", f"/ops/replays/{UUID(int=1)}"),
        ("/ops/replays/../x", "/ops"),
        ("https://evil.example/ops", "/ops"),
        ("/ops/events", "/ops"),
        ("", "/ops"),
    ],
)
def test_signing_in_leads_to_places_of_the_area_only(after: str, leads: str) -> None:
    assert OPS.leads_to(after) == leads


def test_of_many_who_ask_at_once_one_asks_and_faults_are_not_kept() -> None:
    async def story() -> None:
        kept: Lately[int] = Lately(60.0, 2)
        asked = 0

        async def ask() -> int:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            return asked

        async def fail() -> int:
            raise Problem(503, "away")

        with pytest.raises(Problem):
            await kept.get("a", fail)
        assert await asyncio.gather(*(kept.get("a", ask) for _ in range(9))) == [1] * 9
        assert [await kept.get(key, ask) for key in ("b", "c", "c", "a")] == [2, 3, 3, 4]
        assert await Lately[int](0.0).get("a", ask) == 5

    asyncio.run(story())
