"""Sample traffic for the domain interactions: agents at work, visits to pages, usage that is billed.

Like local/traffic.py the same seed gives the same events in the same order, and each kind comes exactly as
often as it is said to. The event's key is the stream's dedupe key; sessions go on for a while, so that
turns, tools and usage belong together. One event in a hundred is from an earlier day.
"""

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import cycle
from typing import Any

from headwater.clock import iso, utc_now
from local.traffic import TENANTS, Event, Flaw, Kind, Mix, dump, kinds
from schemas.contract import contracts

# stream → share of the events; none is under a fiftieth
SHARES = {
    "text.agent.turn.completed": 0.22,
    "agent.tool.invoked": 0.12,
    "text.agent.session.updated": 0.08,
    "frontend.user.interaction": 0.25,
    "frontend.session.analytics": 0.04,
    "frontend.widget.performance": 0.06,
    "billing.usage.metered": 0.20,
    "marketo.leads.delta": 0.03,
}
MODELS = ("river-small", "river-large")
TOOLS = ("search", "calendar", "crm_lookup", "payments")
WIDGETS = ("chat", "form", "pricing-table")
PAGES = ("https://www.example.com/", "https://www.example.com/pricing", "https://www.example.com/docs?page=2")
REPLIES = ("Of course. Which day suits you?", "Das kann ich für Sie nachsehen.", "はい、承知しました。")
METRICS = (("tokens_in", "tokens"), ("tokens_out", "tokens"), ("api_calls", "calls"))
LATE_SHARE = 0.01
LATE_DAYS = 20
_REMEMBERED = 500
_OPEN_SESSIONS = 20
_TURNS = 12
Document = dict[str, Any]


def interactions(
    total: int,
    *,
    run: str,
    seed: int,
    mix: Mix | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Iterator[Event]:
    """`total` events over all topics, whose keys begin with `run`. Nobody is asked for consent here."""
    made = _Maker(run, random.Random(f"{seed}/interactions"), clock)  # noqa: S311 - sample data, not secrets
    for kind in kinds(total, mix or Mix(no_consent=0), made.rng):
        yield made.event(kind)


class _Maker:
    def __init__(self, run: str, rng: random.Random, clock: Callable[[], datetime]) -> None:
        self.rng = rng
        self._run = run
        self._clock = clock
        self._number = 0
        self._recent: list[Event] = []
        self._flaws = {stream: cycle(_FLAWS_OF[stream]) for stream in SHARES}
        self._sessions = [self._session() for _ in range(_OPEN_SESSIONS)]

    def event(self, kind: Kind) -> Event:
        if kind is Kind.DUPLICATE:
            again = self.rng.choice(self._recent)
            return Event(kind, again.tenant, again.key, again.body, topic=again.topic)
        (stream,) = self.rng.choices(list(SHARES), list(SHARES.values()))
        document = self._document(stream)
        contract = contracts()[stream]
        key = "|".join(str(document[pointer.removeprefix("/")]) for pointer in contract.dedupe_key)
        flaw = next(self._flaws[stream]) if kind is Kind.BROKEN else None
        body = FLAWS[flaw].spoil(document) if flaw else dump(document)
        code = FLAWS[flaw].code if flaw else None
        made = Event(kind, document["account_id"], key, body, flaw, code, contract.topic)
        if kind is Kind.VALID:
            self._recent = [*self._recent[1 - _REMEMBERED :], made]
        return made

    def _document(self, stream: str) -> Document:
        session = self.rng.choice(self._sessions)
        event = {"event_id": self._id("e"), "account_id": session["account_id"]}
        return {**event, **_MAKERS[stream](self, session), **self._time(stream)}

    def _time(self, stream: str) -> Document:
        moment = self._clock()
        if self.rng.random() < LATE_SHARE:
            moment -= timedelta(days=self.rng.randrange(1, LATE_DAYS), minutes=self.rng.randrange(1440))
        if stream == "marketo.leads.delta":
            return {"updated_at": iso(moment)}
        return {"ts_ms": int(moment.timestamp() * 1000)}

    def _id(self, letter: str) -> str:
        self._number += 1
        return f"{self._run}{letter}{self._number:07d}"

    def _session(self) -> Document:
        return {
            "account_id": self.rng.choice(TENANTS),
            "session_id": self._id("s"),
            "user_id": f"user-{self.rng.randrange(500)}",
            "turns": 0,
        }

    def turn(self, session: Document) -> Document:
        session["turns"] += 1
        if session["turns"] > _TURNS:
            self._sessions[self._sessions.index(session)] = self._session()
        return {
            **_of(session, "session_id", "user_id"),
            "turn_id": f"t{session['turns']:03d}",
            **({"channel": "voice"} if self.rng.random() < 0.2 else {}),
            "model": self.rng.choice(MODELS),
            "tokens_in": self.rng.randrange(20, 4000),
            "tokens_out": self.rng.randrange(5, 1500),
            "latency_ms": round(self.rng.uniform(80, 4000), 2),
            "response_text": self.rng.choice(REPLIES),
        }

    def tool(self, session: Document) -> Document:
        return {
            **_of(session, "session_id"),
            "turn_id": f"t{session['turns']:03d}",
            "tool_name": self.rng.choice(TOOLS),
            "status": "error" if self.rng.random() < 0.08 else "ok",
            "duration_ms": round(self.rng.uniform(5, 900), 1),
        }

    def state(self, session: Document) -> Document:
        return {
            **_of(session, "session_id", "user_id"),
            "status": self.rng.choice(("active", "active", "idle", "ended")),
            "last_turn_id": f"t{session['turns']:03d}",
            "last_message": self.rng.choice(REPLIES),
            "seq": self._number,
        }

    def interaction(self, session: Document) -> Document:
        return {
            **_of(session, "session_id", "user_id"),
            "event_type": self.rng.choice(("click", "view", "submit")),
            "page_url": self.rng.choice(PAGES),
            "widget_id": self.rng.choice(WIDGETS),
            "interaction_type": self.rng.choice(("mouse", "touch", "keyboard")),
            "metadata": {"x": self.rng.randrange(1920), "y": self.rng.randrange(1080)},
        }

    def visit(self, session: Document) -> Document:
        pages = self.rng.randrange(1, 20)
        return {
            **_of(session, "session_id", "user_id"),
            "page_views": pages,
            "duration_ms": self.rng.randrange(1000, 900_000),
            "bounced": pages == 1,
            "entry_url": self.rng.choice(PAGES),
            "exit_url": self.rng.choice(PAGES),
            "referrer": self.rng.choice((None, "https://search.example.org/")),
        }

    def widget(self, session: Document) -> Document:
        return {
            **_of(session, "session_id"),
            "widget_id": self.rng.choice(WIDGETS),
            "load_ms": round(self.rng.lognormvariate(5, 0.6), 1),
            "render_ms": round(self.rng.lognormvariate(3, 0.5), 1),
            "error_count": int(self.rng.random() < 0.05),
        }

    def usage(self, session: Document) -> Document:
        metric, unit = self.rng.choice(METRICS)
        whole = self.rng.randrange(1, 4000)
        # Rounded: a sum of floats may have a seventh place, which the contract refuses.
        quantity = whole if metric == "api_calls" else round(whole + self.rng.randrange(1_000_000) / 1e6, 6)
        return {
            **_of(session, "session_id"),
            "metric": metric,
            "quantity": quantity,
            "unit": unit,
            "model": self.rng.choice(MODELS),
        }

    def marketo(self, _session: Document) -> Document:
        number = self.rng.randrange(100_000)
        return {
            "marketo_id": str(number),
            "change_type": self.rng.choice(("created", "updated", "updated", "deleted")),
            "email": f"lead.{number}@example.org",
            "first_name": "Zoë",
            "last_name": "O'Brien",
            "company": "Example & Söhne",
            "attributes": {"score": self.rng.randrange(100)},
        }


_MAKERS: dict[str, Callable[[_Maker, Document], Document]] = {
    "text.agent.turn.completed": _Maker.turn,
    "agent.tool.invoked": _Maker.tool,
    "text.agent.session.updated": _Maker.state,
    "frontend.user.interaction": _Maker.interaction,
    "frontend.session.analytics": _Maker.visit,
    "frontend.widget.performance": _Maker.widget,
    "billing.usage.metered": _Maker.usage,
    "marketo.leads.delta": _Maker.marketo,
}


def _of(session: Document, *names: str) -> Document:
    return {name: session[name] for name in names}


def _with(name: str, value: object) -> Callable[[Document], bytes]:
    return lambda document: dump({**document, name: value})


def _without(name: str) -> Callable[[Document], bytes]:
    return lambda document: dump({k: v for k, v in document.items() if k != name})


FLAWS = {
    "not_json": Flaw("malformed_json", lambda document: dump(document)[:-2]),
    "no_account": Flaw("tenant_missing", _without("account_id")),
    "seconds": Flaw("event_time_out_of_range", lambda d: dump({**d, "ts_ms": d["ts_ms"] // 1000})),
    "text_for_time": Flaw("type_mismatch", _with("ts_ms", "2025-01-01T00:00:00Z")),
    "no_session": Flaw("missing_required", _without("session_id")),
    "negative_tokens": Flaw("rule:minimum", _with("tokens_in", -1)),
    "half_a_token": Flaw("type_mismatch", _with("tokens_out", 0.5)),
    "unknown_status": Flaw("rule:enum", _with("status", "perhaps")),
    "negative_duration": Flaw("rule:minimum", _with("duration_ms", -0.5)),
    "no_type": Flaw("missing_required", _without("event_type")),
    "list_for_metadata": Flaw("type_mismatch", _with("metadata", [1])),
    "negative_load": Flaw("rule:minimum", _with("load_ms", -3)),
    "seven_places": Flaw("rule:multiple_of", _with("quantity", 0.0000001)),
    "negative_quantity": Flaw("rule:minimum", _with("quantity", -1)),
    "shouted_metric": Flaw("rule:pattern", _with("metric", "TOKENS")),
    "unknown_change": Flaw("rule:enum", _with("change_type", "merged")),
    "year_1999": Flaw("event_time_out_of_range", _with("updated_at", "1999-12-31T23:59:59Z")),
}
_ANYWHERE = ("not_json", "no_account")
_TIMED = (*_ANYWHERE, "seconds", "text_for_time")
_FLAWS_OF = {
    "text.agent.turn.completed": (*_TIMED, "no_session", "negative_tokens", "half_a_token"),
    "agent.tool.invoked": (*_TIMED, "unknown_status", "negative_duration"),
    "text.agent.session.updated": (*_TIMED, "no_session", "unknown_status"),
    "frontend.user.interaction": (*_TIMED, "no_type", "list_for_metadata"),
    "frontend.session.analytics": (*_TIMED, "no_session", "negative_duration"),
    "frontend.widget.performance": (*_TIMED, "negative_load"),
    "billing.usage.metered": (*_TIMED, "seven_places", "negative_quantity", "shouted_metric"),
    "marketo.leads.delta": (*_ANYWHERE, "unknown_change", "year_1999"),
}
