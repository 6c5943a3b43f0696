"""The barest program that tells many clients what is published: one Starlette route, one aiokafka consumer.

A program: order `{port, bootstrap, topic}`; writes a line when it serves, ends on SIGTERM. A client hears of the
records whose key is its session.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.bench.bare_server import serve
from tests.bench.child import answer, order
from tests.bench.kafka_log import reading


class Heading(msgspec.Struct):
    """What a record of a stream says besides the event."""

    type: str
    seq: int


_decode = msgspec.json.Decoder(Heading).decode


def application(bootstrap: str, topic: str) -> Starlette:
    """GET /v1/sessions/{session_id}/events: what is published from now on."""
    queues: dict[bytes, set[asyncio.Queue[bytes]]] = {}

    async def records(queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
        yield b": open\n\n"
        while True:
            yield await queue.get()

    async def get(request: Request) -> Response:
        queue = asyncio.Queue[bytes]()
        queues.setdefault(request.path_params["session_id"].encode(), set()).add(queue)
        return StreamingResponse(records(queue), media_type="text/event-stream")

    async def tail(consumer: Any) -> None:
        async for record in consumer:
            heading = _decode(record.value)
            text = f"id: {heading.seq}\nevent: {heading.type}\ndata: ".encode()
            for queue in queues.get(record.key, ()):
                queue.put_nowait(text + record.value + b"\n\n")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with reading(bootstrap, topic) as consumer:
            task = asyncio.create_task(tail(consumer))
            answer({"ready": True})
            yield
            task.cancel()

    route = Route("/v1/sessions/{session_id}/events", get)
    return Starlette(routes=[route], lifespan=lifespan)


def main() -> None:
    """Serve until SIGTERM."""
    told = order()
    serve(application(told["bootstrap"], told["topic"]), told["port"])


if __name__ == "__main__":
    main()
