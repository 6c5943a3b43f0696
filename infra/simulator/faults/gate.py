"""The layer between gate and routes that strikes requests and streams with faults.

No other part of the simulator knows about faults, except that a session can be asked for an event
after its next idle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.simulator.faults.requests import strike
from infra.simulator.faults.rules import STREAM_KINDS, Fault, Faults
from infra.simulator.faults.streams import FaultyStream
from infra.simulator.play.session import Session
from infra.simulator.world import World

_SESSION = re.compile(r"/v1/sessions/([^/]+)")


class FaultGate:
    """ASGI middleware that applies the rules to requests and streams."""

    def __init__(self, app: ASGIApp, faults: Faults, world: World) -> None:
        self._app = app
        self._faults = faults
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or not self._faults.rules
            or not scope["path"].startswith("/v1/")
        ):
            await self._app(scope, receive, send)
            return
        fault, receive = await self._choose(scope, receive)
        if fault is None:
            await self._app(scope, receive, send)
            return
        scope["note"]["fault"] = fault.kind
        if fault.kind in STREAM_KINDS:
            await self._app(scope, receive, FaultyStream(fault, scope, send))
        elif fault.kind == "late_event":
            if session := self._session(scope["path"]):
                session.late_events += 1
            await self._app(scope, receive, send)
        else:
            if fault.kind == "delay":  # takes effect even when the client is gone by then
                receive = _again(await _read(receive), receive)
            await strike(fault, self._app, scope, receive, send)

    async def _choose(self, scope: Scope, receive: Receive) -> tuple[Fault | None, Receive]:
        rules = self._faults.candidates(scope["method"], scope["path"])
        text = b""
        if any(rule.reads_body for rule in rules):
            text = await _read(receive)
            receive = _again(text, receive)
        session = self._session(scope["path"])
        metadata: Mapping[str, str] | None = session.metadata if session else None
        for rule in rules:
            if rule.due(text, metadata):
                return rule.body.fault, receive
        return None, receive

    def _session(self, path: str) -> Session | None:
        found = _SESSION.match(path)
        return self._world.sessions.get(found[1]) if found else None


async def _read(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


def _again(text: bytes, receive: Receive) -> Receive:
    """A receive that gives the body that was read already, then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": text, "more_body": False}

    return replay
