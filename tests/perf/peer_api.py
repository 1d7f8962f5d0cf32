"""The peer of the API's race: FastAPI and aiokafka as their documentation shows them.

`uvicorn tests.perf.peer_api:app` with PEER_KAFKA, PEER_TOPIC and PEER_LINGER_MS. It takes the same events and
answers when all brokers have the record. What ours does besides is left out: credentials, limits, dead
letters, strictness about JSON, compression, metrics.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Header, Request
from pydantic import BaseModel, ConfigDict, Field

TENANT = "acme"


class Part(BaseModel):
    """Unknown fields are refused, as ours are."""

    model_config = ConfigDict(extra="forbid")


class Payload(Part):
    first_name: str | None = Field(None, max_length=255)
    last_name: str | None = Field(None, max_length=255)
    email: str = Field(max_length=255, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
    phone: str | None = Field(None, max_length=50)
    message: str | None = None
    submission_type: str | None = Field(None, max_length=100)
    consent: bool


class Utm(Part):
    source: str | None = Field(None, max_length=255)
    medium: str | None = Field(None, max_length=255)
    campaign: str | None = Field(None, max_length=255)
    content: str | None = Field(None, max_length=255)
    term: str | None = Field(None, max_length=255)


class Circumstances(Part):
    ip_address: str | None = None
    user_agent: str | None = None
    page_url: str | None = None
    utm: Utm | None = None


class Lead(Part):
    source: str = Field(max_length=50)
    payload: Payload
    context: Circumstances | None = None
    metadata: dict[str, Any] | None = None


class Event(Lead):
    """What is sent to Kafka."""

    event_id: str
    tenant_id: str
    idempotency_key: str = Field(max_length=255)
    received_at: datetime


class Answer(BaseModel):
    status: str
    event_id: str
    idempotency_key: str
    received_at: datetime


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One producer for the whole process."""
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["PEER_KAFKA"], acks="all", linger_ms=int(os.environ["PEER_LINGER_MS"])
    )
    await producer.start()
    app.state.producer = producer
    yield
    await producer.stop()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answers once the producer is there."""
    return {"status": "ok"}


@app.post("/ingest", status_code=202)
async def ingest(lead: Lead, request: Request, idempotency_key: Annotated[str, Header()]) -> Answer:
    """Take one event."""
    event = Event(
        **lead.model_dump(),
        event_id=str(uuid.uuid4()),
        tenant_id=TENANT,
        idempotency_key=idempotency_key,
        received_at=datetime.now(UTC),
    )
    key = f"{TENANT}|{idempotency_key}".encode()
    await request.app.state.producer.send_and_wait(
        os.environ["PEER_TOPIC"], event.model_dump_json().encode(), key
    )
    answer = {"event_id": event.event_id, "idempotency_key": idempotency_key}
    return Answer(status="accepted", received_at=event.received_at, **answer)
