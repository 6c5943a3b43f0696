"""What one writes by hand to accept turns: a FastAPI endpoint that publishes with FastStream, acks=all.

A program: order `{port, bootstrap, topic}`; writes a line when it serves, ends on SIGTERM.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator

from fastapi import FastAPI
from faststream.kafka import KafkaBroker
from pydantic import BaseModel

from tests.bench.bare_server import serve
from tests.bench.child import answer, order


class Body(BaseModel):
    """What is posted."""

    content: str


class Turn(BaseModel):
    """What is published."""

    session_id: str
    turn_id: str
    content: str


class Accepted(BaseModel):
    """What is answered."""

    turn_id: str
    session_id: str
    status: str = "accepted"


def application(bootstrap: str, topic: str) -> FastAPI:
    """POST /v1/sessions/{session_id}/turns: 202 once the record is acknowledged."""
    broker = KafkaBroker(bootstrap, acks="all", logger=None)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await broker.start()
        answer({"ready": True})
        yield
        await broker.stop()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/sessions/{session_id}/turns", status_code=202)
    async def post(session_id: str, body: Body) -> Accepted:
        turn = Turn(session_id=session_id, turn_id=f"turn_{uuid.uuid4().hex}", content=body.content)
        await broker.publish(turn, topic, key=session_id.encode())
        return Accepted(turn_id=turn.turn_id, session_id=session_id)

    return app


def main() -> None:
    """Serve until SIGTERM."""
    told = order()
    serve(application(told["bootstrap"], told["topic"]), told["port"])


if __name__ == "__main__":
    main()
