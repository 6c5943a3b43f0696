"""The barest pipeline's two processes, on the log and the provider of a leg."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from infra.kafka.topics import create_topics
from infra.local.ports import free_ports
from shared.bus.topics import Topic
from tests.bench import child
from tests.bench.parts import Parts

INPUTS, EVENTS = "bench.pipeline.inputs", "bench.pipeline.events"


@asynccontextmanager
async def pipeline(
    parts: Parts, sessions: int, database: str = ""
) -> AsyncIterator[tuple[str, dict[str, int]]]:
    """Where its gateway serves, and its processes. `sessions`: how many it will have in all. With a `database` its
    worker commits a row before each send."""
    kafka, (port,) = parts.addresses.kafka, free_ports(1)
    nobody = "nobody but a benchmark"
    names = (INPUTS, EVENTS)
    await create_topics(
        kafka, [Topic(n, "what goes by", "bench", nobody, 3_600_000) for n in names]
    )
    told = {"bootstrap": kafka, "inputs": INPUTS, "events": EVENTS, "port": port}
    told |= {"base_url": parts.addresses.anthropic_base_url, "sessions": sessions}
    async with (
        child.serving("tests.bench.pipeline_worker", {**told, "database": database}) as worker,
        child.serving("tests.bench.pipeline_gateway", told) as gateway,
    ):
        yield f"http://127.0.0.1:{port}", {"worker": worker, "gateway": gateway}
