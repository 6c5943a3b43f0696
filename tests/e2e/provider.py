"""The simulator's own log of what the provider saw and made, read outside its API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

from infra.simulator import text_of
from tests.e2e.waiting import eventually

PRIMARY = ""


class _Head(msgspec.Struct):
    id: str
    type: str


class _Thread(msgspec.Struct):
    events: list[msgspec.Raw]


class _Log(msgspec.Struct):
    user_messages: list[dict[str, Any]]
    inputs: list[dict[str, Any]]
    events: list[msgspec.Raw]
    threads: dict[str, _Thread]


# Of requests to the API itself.
API = {
    "x-api-key": "e2e",
    "anthropic-version": "2026-10-21",
    "anthropic-beta": "managed-agents-2026-04-01",
}


@dataclass(frozen=True, slots=True)
class Made:
    """An event the provider made: `raw` as its list gives it, `thread` empty on the primary one."""

    id: str
    type: str
    thread: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """One provider session: the messages and other inputs it took, the events it made, in list order."""

    user_messages: list[dict[str, Any]]
    inputs: list[dict[str, Any]]
    events: list[Made]

    @property
    def prompts(self) -> list[str]:
        """The texts of the user messages, in order of arrival."""
        return [text_of(message["content"]) for message in self.user_messages]


class Provider:
    """The simulator of one stack."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.AsyncClient(base_url=url, timeout=20.0)

    async def log(self, provider_session_id: str) -> Log:
        """Everything of one session."""
        answer = await self._http.get(f"/_sim/sessions/{provider_session_id}")
        assert answer.status_code == 200, answer.text[:400]
        log = msgspec.json.decode(answer.content, type=_Log)
        events = _made(log.events, PRIMARY)
        for thread, its in log.threads.items():
            events += _made(its.events, thread)
        return Log(log.user_messages, log.inputs, events)

    async def list_cost(self, provider_session_id: str) -> int:
        """US cents that the session has cost by the provider's own figure."""
        answer = await self._http.get(f"/_sim/sessions/{provider_session_id}")
        return int(answer.json()["session"]["usage"]["list_cost"]["amount"])

    async def threads(self, provider_session_id: str) -> dict[str, dict[str, Any]]:
        """The child threads of a session as the API shows them, by id."""
        answer = await self._http.get(f"/v1/sessions/{provider_session_id}/threads", headers=API)
        assert answer.status_code == 200, answer.text[:400]
        found = answer.json()["data"]
        return {one["id"]: one for one in found if one["parent_thread_id"] is not None}

    async def vaults(self) -> set[str]:
        """Ids of the vaults that are there."""
        answer = await self._http.get("/v1/vaults?limit=100", headers=API)
        assert answer.status_code == 200, answer.text[:400]
        return {one["id"] for one in answer.json()["data"]}

    async def file(self, name: str = "a.csv") -> str:
        """The id of a new file there."""
        form = {"file": (name, b"a,b\n", "text/csv")}
        answer = await self._http.post("/v1/files", files=form, headers=API)
        assert answer.status_code == 200, answer.text[:400]
        return str(answer.json()["id"])

    async def memory_store(self, name: str = "wishes") -> str:
        """The id of a new memory store there."""
        return await self._made("/v1/memory_stores", name=name)

    async def agent(self, name: str) -> str:
        """The id of a new agent there."""
        return await self._made("/v1/agents", name=name, model="claude-sonnet-5")

    async def environment(self, name: str) -> str:
        """The id of a new environment there."""
        return await self._made("/v1/environments", name=name)

    async def _made(self, path: str, **body: str) -> str:
        answer = await self._http.post(path, json=body, headers=API)
        assert answer.status_code == 200, answer.text[:400]
        return str(answer.json()["id"])

    async def resources(self, provider_session_id: str) -> list[dict[str, Any]]:
        """What a session was made with, as the API shows it."""
        answer = await self._http.get(f"/_sim/sessions/{provider_session_id}")
        found: list[dict[str, Any]] = answer.json()["session"]["resources"]
        return found

    async def posts(self) -> set[tuple[str, str]]:
        """The latest requests that were to make, change or send something, by id and path; but for those that
        archive what has rested for long."""
        found = (await self._http.get("/_sim/requests")).json()["data"]
        return {
            (one["request_id"], one["path"])
            for one in found
            if one["method"] == "POST" and not one["path"].endswith("/archive")
        }

    async def creates(self) -> set[str]:
        """Request ids of the latest tries to make a session."""
        found = (await self._http.get("/_sim/requests")).json()["data"]
        made = (one for one in found if (one["method"], one["path"]) == ("POST", "/v1/sessions"))
        return {one["request_id"] for one in made}

    async def traces(self, path: str) -> list[dict[str, str]]:
        """The trace contexts, by header, that the latest requests to `path` came with."""
        found = (await self._http.get("/_sim/requests")).json()["data"]
        return [one["trace"] for one in found if one["path"] == path]

    async def messages(self) -> dict[str, int]:
        """How many messages were taken for each of our sessions, by `tenant/session`."""
        answer = await self._http.get("/_sim/sessions")
        return {
            mark: one["user_messages"]
            for one in answer.json()["data"]
            for mark in one["metadata"].values()
        }

    async def of(self, tenant_id: str, session_id: str) -> list[str]:
        """Ids of the provider sessions that were made for a session, oldest first."""
        answer = await self._http.get("/_sim/sessions")
        mark = f"{tenant_id}/{session_id}"
        return [one["id"] for one in answer.json()["data"] if mark in one["metadata"].values()]

    async def only(self, tenant_id: str, session_id: str) -> Log:
        """The log of the one provider session that was made for a session."""
        found = await self.of(tenant_id, session_id)
        assert len(found) == 1, f"{session_id}: {found}"
        return await self.log(found[0])

    async def prompted(self, tenant_id: str, session_id: str, times: int = 1) -> str:
        """The id of a session's provider session once it has taken `times` messages."""

        async def look() -> str | None:
            for found in await self.of(tenant_id, session_id):
                if len((await self.log(found)).user_messages) >= times:
                    return found
            return None

        return await eventually(look, f"{session_id}: {times} messages at the provider")

    async def deleted(self, provider_session_id: str) -> None:
        """Wait until the session is deleted."""

        async def look() -> bool:
            listed = (await self._http.get("/_sim/sessions")).json()["data"]
            return any(one["id"] == provider_session_id and one["deleted"] for one in listed)

        await eventually(look, f"{provider_session_id} deleted")

    async def release(self, provider_session_id: str) -> None:
        """Let a held turn go on."""
        answer = await self._http.post(f"/_sim/sessions/{provider_session_id}/release")
        assert answer.status_code == 200, answer.text[:400]

    async def fault(self, match: dict[str, Any], fault: dict[str, Any]) -> None:
        """Ask for a fault, beside those asked for already."""
        rules = {"rules": [{"match": match, "fault": fault}]}
        answer = await self._http.post("/_sim/faults?mode=add", json=rules)
        assert answer.status_code == 200, answer.text[:400]

    async def struck(self, match: dict[str, Any]) -> None:
        """Wait until the fault that was asked for with this match has struck."""

        async def look() -> bool:
            rules = (await self._http.get("/_sim/faults")).json()["rules"]
            return any(match.items() <= r["match"].items() and r["done"] for r in rules)

        await eventually(look, f"a fault struck: {match}")

    async def no_faults(self) -> None:
        """Take all faults away."""
        await self._http.delete("/_sim/faults")


def _made(events: list[msgspec.Raw], thread: str) -> list[Made]:
    heads = [msgspec.json.decode(raw, type=_Head) for raw in events]
    return [
        Made(head.id, head.type, thread, bytes(raw))
        for head, raw in zip(heads, events, strict=True)
    ]
