"""The gateway's public HTTP calls with one API key, as a stranger makes them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import msgspec

from infra.clients.gateway import Gateway, Json, Received
from tests.e2e.waiting import PATIENCE_S, eventually

ALREADY = "urn:turnstile:problem:already_answered"
TURN_ENDS = frozenset({"turn.completed", "turn.interrupted", "turn.refused", "turn.failed"})


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    next_after: int


class Api(Gateway):
    """The client, with the calls that the tests make. What is refused fails the test (UnexpectedAnswer)."""

    async def post_stubbornly(self, path: str, body: Json, timeout: float = PATIENCE_S) -> Json:
        """The same POST until it is taken: what a client does while parts of the stack are away."""

        async def once() -> Json | None:
            try:
                answer = await self.http.post(path, json=body)
            except httpx2.TransportError:
                return None
            if answer.status_code == 503:
                return None
            if answer.status_code == 409 and ALREADY in answer.text:
                return {"status": "accepted"}  # by a try whose own answer was lost
            assert answer.status_code in (200, 201, 202), answer.text[:400]
            taken: Json = answer.json()
            return taken

        return await eventually(once, f"POST {path} taken", timeout)

    async def open(self, session_id: str, **more: Any) -> Json:
        return await self.post(
            "/v1/sessions", {"session_id": session_id, "user_id": "u1", **more}, 201
        )

    async def say(self, session_id: str, turn_id: str, content: Any, **more: Any) -> Json:
        body = {"content": content, "turn_id": turn_id, **more}
        return await self.post(f"/v1/sessions/{session_id}/turns", body)

    async def session(self, session_id: str, at_seq: int | None = None) -> Json:
        query = "" if at_seq is None else f"?at_seq={at_seq}"
        return await self.get(f"/v1/sessions/{session_id}{query}")

    async def turn(self, session_id: str, turn_id: str) -> Json:
        return await self.get(f"/v1/sessions/{session_id}/turns/{turn_id}")

    async def turn_in(
        self, session_id: str, turn_id: str, *statuses: str, timeout: float = PATIENCE_S
    ) -> Json:
        """The turn's page as soon as its status is one of these."""
        path = f"/v1/sessions/{session_id}/turns/{turn_id}"

        async def look() -> Json | None:
            try:
                answer = await self.http.get(path)
            except httpx2.TransportError:
                return None
            page: Json = answer.json() if answer.status_code == 200 else {}
            return page if page.get("status") in statuses else None

        return await eventually(look, f"{session_id} {turn_id}: {' or '.join(statuses)}", timeout)

    async def ended(self, session_id: str, turn_id: str, timeout: float = PATIENCE_S) -> Json:
        """The turn's page once it ended, however it did."""
        ends = ("completed", "interrupted", "refused", "failed")
        return await self.turn_in(session_id, turn_id, *ends, timeout=timeout)

    async def settled(self, session_id: str, timeout: float = PATIENCE_S) -> Json:
        """The session's page once nothing runs, and its log says so (`session.idled` or its end); it is what the
        log folds to."""

        async def look() -> Json | None:
            page = await self.session(session_id)
            if page["status"] in ("running", "requires_action") or not page["last_seq"]:
                return None
            last = await self.events(session_id, after=max(0, page["last_seq"] - 10))
            # An answer that comes too late says so, and changes nothing.
            kinds = [e["type"] for e in last if e["type"] != "session.answer_refused"]
            quiet = ("session.idled", "session.archived", "session.erased")
            return page if kinds and kinds[-1] in quiet else None

        page = await eventually(look, f"{session_id} at rest", timeout)
        if page["status"] != "erased":
            assert page == await self.session(session_id, at_seq=page["last_seq"])
        return page

    async def raw_events(self, session_id: str, after: int = 0, limit: int = 1000) -> list[bytes]:
        """All events after a seq as the JSON pages have them, byte for byte."""
        found: list[bytes] = []
        while True:
            path = f"/v1/sessions/{session_id}/events?after={after}&limit={limit}"
            answer = await self.http.get(path, headers={"Accept": "application/json"})
            assert answer.status_code == 200, answer.text[:400]
            page = msgspec.json.decode(answer.content, type=_Page)
            if not page.data:
                return found
            found += [bytes(raw) for raw in page.data]
            after = page.next_after

    async def events(self, session_id: str, after: int = 0) -> list[Json]:
        return [msgspec.json.decode(raw) for raw in await self.raw_events(session_id, after)]

    async def heard(
        self,
        session_id: str,
        until: int,
        after: int | None = None,
        previews: bool = False,
        timeout: float = PATIENCE_S,
    ) -> list[Received]:
        """What a stream says from after `after` (as Last-Event-ID) to seq `until`, previews too."""
        path = f"/v1/sessions/{session_id}/events?previews={str(previews).lower()}"
        got: list[Received] = []
        async with asyncio.timeout(timeout), self.stream(path, after) as events:
            async for event in events:
                got.append(event)
                if event.seq is not None and event.seq >= until:
                    return got
        raise AssertionError(f"{session_id}: the stream ended before seq {until}")
