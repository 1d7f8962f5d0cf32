"""GET /metrics: Prometheus text. No credential needed; it holds counts only."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from api.metrics import exposition

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics() -> Response:
    """Counts, latencies, queue length."""
    return Response(exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})
