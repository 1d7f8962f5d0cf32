"""GET /health (what the API depends on) and GET /health/live (the process answers). No credential needed."""

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.health import health_of
from api.models import HealthModel, LiveModel

router = APIRouter(tags=["health"])


@router.get("/health", response_model=HealthModel, responses={503: {"model": HealthModel}})
async def health(request: Request) -> Response:
    """200 for ok and degraded (Redis, PostgreSQL or the schema registry is away), 503 when Kafka is."""
    found = await health_of(request).look()
    status = 503 if found["status"] == "down" else 200
    return Response(orjson.dumps(found), status_code=status, media_type="application/json")


@router.get("/health/live", response_model=LiveModel)
async def live() -> Response:
    """200 while the process answers."""
    return Response(b'{"status":"ok"}', media_type="application/json")
