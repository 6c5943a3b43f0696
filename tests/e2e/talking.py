"""A client of the gateway as a stranger would write it: plain HTTP, nothing of Turnstile's code."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import clickhouse_connect
import httpx2

from tests.stack import LocalStack

TURN_ENDS = ("completed", "interrupted", "refused", "failed")


@dataclass(frozen=True, slots=True)
class Client:
    """Calls of the public API; each raises AssertionError with the answer when the status is another."""

    http: httpx2.AsyncClient

    async def post(self, path: str, body: Any, status: int, **headers: str) -> Any:
        answer = await self.http.post(path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str, status: int = 200, **headers: str) -> Any:
        answer = await self.http.get(path, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def open(self, session: str) -> None:
        await self.post("/v1/sessions", {"user_id": "u1", "session_id": session}, 201)

    async def submit(self, session: str, content: Any, turn_id: str, **more: Any) -> None:
        body = {"content": content, "turn_id": turn_id, **more}
        await self.post(f"/v1/sessions/{session}/turns", body, 202)

    async def ended(self, session: str, turn_id: str, timeout: float = 60.0) -> dict[str, Any]:
        """The turn's page once it ended."""
        async with asyncio.timeout(timeout):
            while True:
                turn = await self.get(f"/v1/sessions/{session}/turns/{turn_id}")
                if turn["status"] in TURN_ENDS:
                    return dict(turn)
                await asyncio.sleep(0.05)

    async def sse(self, session: str, until: int, **headers: str) -> list[dict[str, Any]]:
        """The facts of the stream up to and with seq `until`."""
        facts = list[dict[str, Any]]()
        path = f"/v1/sessions/{session}/events"
        async with asyncio.timeout(60.0), self.http.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    facts.append(json.loads(line[6:]))
                    if facts[-1]["seq"] >= until:
                        break
        return facts


def client(stack: LocalStack) -> Client:
    """A client with the stack's own key."""
    headers = {"authorization": f"Bearer {stack.key}"}
    return Client(httpx2.AsyncClient(base_url=stack.gateway, headers=headers, timeout=30.0))


async def rows(stack: LocalStack, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """What ClickHouse answers."""

    def ask() -> list[tuple[Any, ...]]:
        found = clickhouse_connect.get_client(dsn=stack.clickhouse_url)
        try:
            return [tuple(row) for row in found.query(query, parameters=parameters).result_rows]
        finally:
            found.close()

    return await asyncio.to_thread(ask)


async def archived(stack: LocalStack, session: str, last_seq: int) -> list[tuple[Any, ...]]:
    """(seq, type, turn_id, thread_id, provider_event_id, data) of a session once ClickHouse has `last_seq`."""
    query = (
        "SELECT seq, type, turn_id, thread_id, provider_event_id, data FROM events "
        "WHERE session_id = {session:String} ORDER BY seq"
    )
    async with asyncio.timeout(60.0):
        while True:
            found = await rows(stack, query, session=session)
            if found and found[-1][0] >= last_seq:
                return found
            await asyncio.sleep(0.1)


async def simulated(stack: LocalStack, session: str) -> dict[str, Any]:
    """The simulator's own log of the provider session behind ours."""
    async with httpx2.AsyncClient(base_url=stack.simulator, timeout=30.0) as http:
        sessions = (await http.get("/_sim/sessions")).json()
        listed = sessions["data"] if isinstance(sessions, dict) and "data" in sessions else sessions
        for entry in listed:
            if str(entry.get("metadata", {}).get("turnstile", "")).endswith(f"/{session}"):
                return dict((await http.get(f"/_sim/sessions/{entry['id']}")).json())
    raise AssertionError(f"the simulator knows no session for {session}")
