"""The barest program that accepts a turn: one Starlette route, one aiokafka producer with acks=all.

A program: order `{port, bootstrap, topic}`; writes a line when it serves, ends on SIGTERM.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.bare_server import serve
from tests.bench.child import answer, order


class Body(msgspec.Struct):
    """What is posted."""

    content: str


_decode = msgspec.json.Decoder(Body).decode
_encode = msgspec.json.Encoder().encode


def application(bootstrap: str, topic: str) -> Starlette:
    """POST /v1/sessions/{session_id}/turns: 202 once the record is acknowledged."""
    producers: list[Any] = []

    async def post(request: Request) -> Response:
        body = _decode(await request.body())
        session_id, turn_id = request.path_params["session_id"], f"turn_{uuid.uuid4().hex}"
        record = {"session_id": session_id, "turn_id": turn_id, "content": body.content}
        sent = await producers[0].send(topic, _encode(record), key=session_id.encode())
        await sent
        accepted = {"turn_id": turn_id, "session_id": session_id, "status": "accepted"}
        return Response(_encode(accepted), 202, media_type="application/json")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        producers.append(AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all"))
        await producers[0].start()
        answer({"ready": True})
        yield
        await producers[0].stop()

    route = Route("/v1/sessions/{session_id}/turns", post, methods=["POST"])
    return Starlette(routes=[route], lifespan=lifespan)


def main() -> None:
    """Serve until SIGTERM."""
    told = order()
    serve(application(told["bootstrap"], told["topic"]), told["port"])


if __name__ == "__main__":
    main()
