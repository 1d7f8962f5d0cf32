"""What the routes work with, made once for an app."""

from dataclasses import dataclass

from starlette.requests import Request

from api.arrivals import Arrivals
from api.control import Control
from api.database import Database
from api.dead_letters import DeadLetters
from api.jobs import Jobs
from api.lake import Lake
from api.letters import Letters
from api.limits import RateLimit
from api.metrics import REFUSED, Sources
from api.ops import Ops
from api.page.sessions import Sessions
from api.problems import Problem
from api.publisher import Publisher
from api.replays import Replays
from api.room import Room
from api.schema_registry import SchemaRegistry
from api.security import Gate, Principal
from headwater.settings import Settings
from sources.landing.registry import landing_of

MAX_WATCHERS = 64  # who follow a job, of one worker: each asks PostgreSQL once a second
MAX_WATCHERS_EACH = 16


@dataclass(frozen=True)
class Services:
    """The parts that hold state. `start` and `stop` run on the app's loop."""

    settings: Settings
    gate: Gate
    rate: RateLimit
    publisher: Publisher
    dead_letters: DeadLetters
    sources: Sources
    bodies: Room
    database: Database
    jobs: Jobs
    control: Control
    lake: Lake
    letters: Letters
    replays: Replays
    ops: Ops
    registry: SchemaRegistry
    arrivals: Arrivals
    sessions: Sessions
    uploading: Room
    watching: Room

    async def start(self) -> None:
        self.publisher.start()
        await self.database.start()

    async def stop(self) -> None:
        await self.publisher.stop()
        await self.rate.close()
        await self.sessions.close()
        await self.registry.close()
        await self.database.stop()
        await self.arrivals.stop()
        self.lake.stop()

    async def admit(self, request: Request, scope: str) -> Principal:
        """The caller, if it may and is not too fast. Raises Problem 401 or 429, or ForbiddenError."""
        try:
            principal = self.gate.admit(request, scope)
        except Problem as refusal:
            REFUSED.labels(refusal.code).inc()
            raise
        await self.pace(request, principal)
        return principal

    async def pace(self, request: Request, principal: Principal) -> None:
        """Count a request of a known caller. Raises Problem 429 for one that is too fast."""
        if not self.rate.spend(principal.credential):
            wait_s = await self.rate.admit(principal.credential)
            if wait_s is not None:
                REFUSED.labels("rate_limited").inc()
                raise Problem(429, "rate_limited", headers={"Retry-After": str(wait_s)})
        request.scope["state"]["tenant_id"] = principal.tenant_id


def make_services(settings: Settings) -> Services:
    """Everything from the settings. Raises SetupError when credential files or storage cannot be used."""
    publisher = Publisher(settings)
    uploads, database, lake = settings.uploads, Database(settings), Lake(settings)
    letters, control = Letters(lake), Control(database)
    return Services(
        settings,
        Gate(settings.api),
        RateLimit(settings),
        publisher,
        DeadLetters(publisher),
        Sources(),
        Room(),
        database,
        Jobs(database),
        control,
        lake,
        letters,
        Replays(database),
        Ops(lake, letters, control),
        SchemaRegistry(settings.registry),
        Arrivals(uploads, landing_of(settings)),
        Sessions(settings),
        Room(uploads.at_once, uploads.at_once_each),
        Room(MAX_WATCHERS, MAX_WATCHERS_EACH),
    )


def services(request: Request) -> Services:
    """The services of the app that serves this request."""
    found: Services = request.app.state.services
    return found
