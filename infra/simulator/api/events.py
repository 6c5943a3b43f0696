"""Endpoints of events and threads: send, list and stream."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.api.answer import answer, joined, listing
from infra.simulator.api.decode import body_of
from infra.simulator.api.event_types import DELTA_TYPES, LISTABLE_TYPES
from infra.simulator.api.files import check_files
from infra.simulator.api.pages import backward, decode, forward, page_of
from infra.simulator.api.query import RANGES, Query
from infra.simulator.api.sessions import STATUSES
from infra.simulator.api.stream import EventStream
from infra.simulator.content import SEND, as_json
from infra.simulator.errors import bad, missing
from infra.simulator.play import inbox
from infra.simulator.play.log import Entry
from infra.simulator.play.session import Session
from infra.simulator.play.thread import Thread
from infra.simulator.world import World

MAX_EVENTS_PAGE = 1000


class Events:
    """The event endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        session = "/v1/sessions/{session_id}"
        thread = f"{session}/threads/{{thread_id}}"
        return [
            Route(f"{session}/events", self.send, methods=["POST"]),
            Route(f"{session}/events/stream", self.stream, methods=["GET"]),
            Route(f"{session}/events", self.list, methods=["GET"]),
            Route(f"{session}/threads", self.threads, methods=["GET"]),
            Route(thread, self.thread, methods=["GET"]),
            Route(f"{thread}/archive", self.archive_thread, methods=["POST"]),
            Route(f"{thread}/events", self.thread_events, methods=["GET"]),
            Route(f"{thread}/stream", self.thread_stream, methods=["GET"]),  # not /events/stream
        ]

    async def send(self, request: Request) -> Response:
        """Files the events and answers at once; nothing makes a repeat of the call harmless."""
        session = self._session(request)
        asked = await body_of(request, SEND)
        inbox.admit(session, asked.events, self._world.casting)
        check_files(self._world, map(as_json, asked.events))
        filed = inbox.file(session, asked.events)
        self._world.driver.wake(session)
        return answer({"data": filed})

    async def list(self, request: Request) -> Response:
        """In list order or newest first; a cursor holds for the order and filters it was made with."""
        query = Query(request, "types", "order", "limit", "page", *RANGES)
        session = self._session(request)
        order = query.choice("order", ("asc", "desc"), "asc")
        types = query.many("types", LISTABLE_TYPES)
        low, high = query.span()
        name = f"events:{session.id}:{order}:{','.join(sorted(types))}:{low}:{high}"
        cursor = decode(query.text("page"), name)
        walk = forward if order == "asc" else backward
        limit = query.limit(MAX_EVENTS_PAGE, MAX_EVENTS_PAGE)
        found, following = walk(session.primary.log, _keep(types, low, high), cursor, name, limit)
        return joined([entry.data for entry in found], following)

    async def stream(self, request: Request) -> Response:
        previews = _previews(request)
        return EventStream(self._session(request).primary.channel, previews, self._keepalive)

    async def threads(self, request: Request) -> Response:
        query = Query(request, "limit", "page", "statuses")
        session = self._session(request)
        statuses = query.many("statuses", STATUSES)
        kept = [t for t in session.threads.values() if not statuses or t.status in statuses]
        name = f"threads:{session.id}:{','.join(sorted(statuses))}"
        page, following, _ = page_of(kept, query.text("page"), name, query.limit(1000, 1000))
        return listing([thread.as_json() for thread in page], following)

    async def thread(self, request: Request) -> Response:
        return answer(self._thread(request).as_json())

    async def archive_thread(self, request: Request) -> Response:
        """Only a child at rest can be archived."""
        session, thread = self._session(request), self._thread(request)
        if thread is session.primary:
            raise bad("the primary thread cannot be archived; archive the session")
        if thread.status == "running":
            raise bad("thread is running and cannot be archived; interrupt it first")
        if thread.archived_at is None:
            fields = {"session_thread_id": thread.id, "agent_name": thread.name}
            thread.status = "terminated"
            ident = session.emit("session.thread_status_terminated", fields)
            session.emit("session.thread_status_terminated", fields, thread, ident=ident)
            thread.archived_at = session.updated_at
        return answer(thread.as_json())

    async def thread_events(self, request: Request) -> Response:
        query = Query(request, "limit", "page")
        thread = self._thread(request)
        name = f"thread-events:{thread.id}"
        cursor = decode(query.text("page"), name)
        limit = query.limit(MAX_EVENTS_PAGE, MAX_EVENTS_PAGE)
        found, following = forward(thread.log, lambda _: True, cursor, name, limit)
        return joined([entry.data for entry in found], following)

    async def thread_stream(self, request: Request) -> Response:
        previews = _previews(request)
        return EventStream(self._thread(request).channel, previews, self._keepalive)

    @property
    def _keepalive(self) -> float:
        return self._world.settings.keepalive_seconds

    def _session(self, request: Request) -> Session:
        return self._world.session(request.path_params["session_id"])

    def _thread(self, request: Request) -> Thread:
        ident = request.path_params["thread_id"]
        thread = self._session(request).threads.get(ident)
        if thread is None:
            raise missing("thread", ident)
        return thread


def _previews(request: Request) -> frozenset[str]:
    return Query(request, "event_deltas").many("event_deltas", DELTA_TYPES)


def _keep(types: frozenset[str], low: int | None, high: int | None) -> Callable[[Entry], bool]:
    """The filter of a listing. A queued event has no time, so no time filter lets it through."""

    def keep(entry: Entry) -> bool:
        if types and entry.type not in types:
            return False
        if low is None and high is None:
            return True
        at = entry.at
        return at is not None and (low is None or at >= low) and (high is None or at < high)

    return keep
