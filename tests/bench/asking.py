"""Puts turns on the log and counts those the worker has ended, for legs that need no gateway."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request

import msgspec

from infra.local.keys import TENANT
from shared.bus.envelope import Envelope
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.session.inputs import TurnRequested
from tests.bench import child
from tests.bench.kafka_log import Record
from tests.bench.parts import Parts

WORKER = "agent-worker-1"


def wish(session_id: str, turn_id: str, content: str) -> Record:
    """A `turn.requested` as another service publishes it."""
    at = rfc3339(utcnow())
    request = TurnRequested(
        tenant_id=TENANT,
        session_id=session_id,
        at=at,
        user_id="bench",
        turn_id=turn_id,
        content=content,
    )
    envelope = Envelope(
        id=f"{session_id}:{turn_id}",
        source="/bench",
        type="turn.requested",
        time=at,
        subject=session_id,
    )
    return session_id.encode(), msgspec.json.encode(request), envelope.headers()


async def metric(parts: Parts, name: str, service: str = WORKER) -> float:
    """The sum of a metric over all its labels."""
    url = f"{parts.health(service)}/metrics"
    try:
        text = await asyncio.to_thread(_get, url)
    except OSError as error:
        raise child.ChildError(
            f"{service} does not answer: {error}\n{parts.log(service)}"
        ) from error
    found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.M)
    return sum(map(float, found))


async def until(parts: Parts, name: str, wanted: float, seconds: float) -> None:
    """Wait until a metric of the worker is at least `wanted`. Raises ChildError with the worker's log."""
    deadline = time.monotonic() + seconds
    told = time.monotonic()
    while (there := await metric(parts, name)) < wanted:
        if time.monotonic() > deadline:
            raise child.ChildError(f"{name}: {there:.0f} of {wanted:.0f}\n{parts.log(WORKER)}")
        if time.monotonic() - told > 15:
            told = time.monotonic()
            parts.say(f"  {name}: {there:,.0f} of {wanted:,.0f}")
        await asyncio.sleep(0.5)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: bytes = answer.read()
    return text.decode()
