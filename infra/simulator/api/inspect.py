"""`/_sim`: the simulator's own log, outside the API and without a key."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator import stamps
from infra.simulator.api.answer import JsonBytes, answer
from infra.simulator.errors import missing
from infra.simulator.faults.rules import Faults, decode_rules
from infra.simulator.play.calls import Input
from infra.simulator.play.delays import decode_delays
from infra.simulator.play.session import Session
from infra.simulator.play.usage import CENT
from infra.simulator.world import JSON, World

Raw = msgspec.Raw
MICRO_USD_A_CENT = 10_000


class Inspect:
    """The `/_sim` endpoints over one world."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        return [
            Route("/_sim/sessions", self.sessions, methods=["GET"]),
            Route("/_sim/sessions/{session_id}", self.session, methods=["GET"]),
            Route("/_sim/sessions/{session_id}/release", self.release, methods=["POST"]),
            Route("/_sim/requests", self.requests, methods=["GET"]),
            Route("/_sim/faults", self.faults, methods=["GET"]),
            Route("/_sim/faults", self.set_faults, methods=["POST"]),
            Route("/_sim/faults", self.clear_faults, methods=["DELETE"]),
            Route("/_sim/delays", self.set_delays, methods=["POST"]),
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/readyz", self.healthz, methods=["GET"]),
        ]

    async def healthz(self, request: Request) -> Response:
        return answer({"status": "ok"})

    async def sessions(self, request: Request) -> Response:
        """Every session, deleted ones too, oldest first."""
        world = self._world
        found = [
            *((s, True) for s in world.gone.values()),
            *((s, False) for s in world.sessions.values()),
        ]
        found.sort(key=lambda pair: pair[0].birth.number)
        return answer({"data": [_line(session, deleted) for session, deleted in found]})

    async def session(self, request: Request) -> Response:
        """All of one session: what was received, and every event in list order, byte for byte."""
        session = self._find(request)
        return answer(
            {
                "session": session.as_json(),
                "deleted": session.id in self._world.gone,
                "spent_micro_usd": session.spent * MICRO_USD_A_CENT / CENT,
                "user_messages": [
                    _received(i) for i in session.received if i.type == "user.message"
                ],
                "inputs": [_received(item) for item in session.received],
                "events": [Raw(entry.data) for entry in session.primary.log.ordered()],
                "stream_only": [Raw(data) for data in session.stream_only],
                "threads": {
                    thread.id: {"events": [Raw(entry.data) for entry in thread.log.ordered()]}
                    for thread in session.threads.values()
                    if thread is not session.primary
                },
            }
        )

    async def release(self, request: Request) -> Response:
        """Lets one held turn of the session go on."""
        session = self._find(request)
        session.releases += 1
        session.nudge.set()
        return answer({"released": session.id})

    async def requests(self, request: Request) -> Response:
        return answer({"data": list(self._world.requests)})

    async def faults(self, request: Request) -> Response:
        return answer({"rules": self._faults.as_json()})

    async def set_faults(self, request: Request) -> Response:
        """Replaces the rules, or adds to them with `?mode=add`; counters of new rules start at 0."""
        rules = decode_rules(await request.body())
        if request.query_params.get("mode") == "add":
            self._faults.add(rules)
        else:
            self._faults.replace(rules)
        return answer({"rules": self._faults.as_json()})

    async def clear_faults(self, request: Request) -> Response:
        self._faults.replace([])
        return JsonBytes(b'{"rules":[]}')

    async def set_delays(self, request: Request) -> Response:
        """The delays of sessions that are made from now on, in place of those of the command line."""
        self._world.delays = decode_delays(await request.body())
        return answer(msgspec.to_builtins(self._world.delays))

    def _find(self, request: Request) -> Session:
        ident = request.path_params["session_id"]
        session = self._world.sessions.get(ident) or self._world.gone.get(ident)
        if session is None:
            raise missing("session", ident)
        return session


def _received(item: Input) -> JSON:
    body = {key: value for key, value in item.body.items() if key not in ("id", "type")}
    at = stamps.written(item.received_at)
    return {"id": item.id, "type": item.type, "received_at": at, **body}


def _line(session: Session, deleted: bool) -> JSON:
    return {
        "id": session.id,
        "metadata": session.metadata,
        "status": session.status,
        "deleted": deleted,
        "turns": session.turns,
        "user_messages": sum(item.type == "user.message" for item in session.received),
        "events": len(session.primary.log.processed) + len(session.primary.log.pending),
        "threads": [ident for ident in session.threads if ident != session.primary.id],
    }
