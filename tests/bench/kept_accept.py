"""The barest program that keeps what the gateway promises of an accepted turn: `bare_accept` with a key checked, a
record that says who sent it, when and in which trace, an idempotent producer, and a row in PostgreSQL of each turn,
written by a process of its own that reads the log back.

It is the bound of what packages and machine allow with these promises. A program: order `{port, bootstrap, topic,
database, key}`; writes a line when it serves, ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.forks import Forks, Lifeline
from tests.bench.bare_accept import Body
from tests.bench.bare_server import serve
from tests.bench.child import answer, order

TABLE = """
    CREATE TABLE IF NOT EXISTS bench_turns (
        tenant_id text, session_id text, turn_id text, status text, seq bigint, body text,
        PRIMARY KEY (tenant_id, session_id, turn_id)
    )"""
INSERT = """
    INSERT INTO bench_turns
    SELECT given.tenant_id, given.session_id, given.turn_id, 'accepted', 0, given.body
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
        AS given (tenant_id, session_id, turn_id, body)
    ON CONFLICT DO NOTHING"""
# As the gateway's projector: so long at most what comes gathers, so many records at most a step.
GATHER_S, MOST = 0.25, 2_000


class Turn(msgspec.Struct):
    """What is published, and kept but for its content."""

    tenant_id: str
    session_id: str
    turn_id: str
    at: str
    content: str


_decode = msgspec.json.Decoder(Body).decode
_read = msgspec.json.Decoder(Turn).decode
_encode = msgspec.json.Encoder().encode


def application(bootstrap: str, topic: str, key: str) -> Starlette:
    """POST /v1/sessions/{session_id}/turns: 202 once the record is acknowledged, 401 without the key."""
    producers: list[Any] = []
    known = {sha256(key.encode()).digest(): "acme"}

    async def post(request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        tenant_id = known.get(sha256(token.encode()).digest())
        if tenant_id is None:
            return Response(status_code=401)
        body = _decode(await request.body())
        turn_id, at = f"turn_{uuid.uuid4().hex}", datetime.now(UTC).isoformat()
        turn = Turn(tenant_id, request.path_params["session_id"], turn_id, at, body.content)
        sent = await producers[0].send(
            topic, _encode(turn), key=turn.session_id.encode(), headers=_headers(turn)
        )
        await sent
        accepted = {"turn_id": turn_id, "session_id": turn.session_id, "status": "accepted"}
        return Response(_encode(accepted), 202, media_type="application/json")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        producers.append(
            AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
        )
        await producers[0].start()
        answer({"ready": True})
        yield
        await producers[0].stop()

    route = Route("/v1/sessions/{session_id}/turns", post, methods=["POST"])
    return Starlette(routes=[route], lifespan=lifespan)


def _headers(turn: Turn) -> list[tuple[str, bytes]]:
    input_id = sha256(f"{turn.tenant_id}\0{turn.session_id}\0{turn.turn_id}".encode()).hexdigest()
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"in_" + input_id[:32].encode()),
        ("ce_source", b"bench"),
        ("ce_type", b"turn.requested"),
        ("ce_time", turn.at.encode()),
        ("ce_subject", turn.session_id.encode()),
        ("content-type", b"application/json"),
        ("traceparent", f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-00".encode()),
    ]


async def keep(bootstrap: str, topic: str, database: str) -> None:
    """A row of each turn on the topic, for ever; offsets are committed behind the rows."""
    rows = await asyncpg.connect(database)
    await rows.execute(TABLE)
    consumer: Any = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id="bench.kept",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    while True:
        found = await consumer.getmany(timeout_ms=1000, max_records=MOST)
        columns = [_row(record) for records in found.values() for record in records]
        if columns:
            await rows.execute(INSERT, *map(list, zip(*columns, strict=True)))
            await consumer.commit()
        await asyncio.sleep(GATHER_S if len(columns) < MOST else 0)


def _row(record: Any) -> tuple[str, str, str, str]:
    turn, headers = _read(record.value), dict(record.headers)
    shown = {
        "turn_id": turn.turn_id,
        "status": "accepted",
        "submitted_at": turn.at,
        "trace_id": headers["traceparent"].decode()[3:35],
    }
    return turn.tenant_id, turn.session_id, turn.turn_id, _encode(shown).decode()


def main() -> None:
    """Serve until SIGTERM; the process that keeps the rows ends with this one."""
    told = order()
    keeper = Forks({"keeper": partial(_keeper, told)})  # held: it ends when this is gone
    serve(application(told["bootstrap"], told["topic"], told["key"]), told["port"])
    del keeper


def _keeper(told: dict[str, Any], parent: Lifeline) -> int:
    async def work() -> None:
        async with parent.beside(asyncio.Event()):
            database = told["database"].replace("+asyncpg", "")
            await keep(told["bootstrap"], told["topic"], database)

    uvloop.run(work())
    return 0


if __name__ == "__main__":
    main()
