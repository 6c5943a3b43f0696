"""Reads the provider's own log and makes it misbehave, through the simulator's own endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import httpx2
import msgspec

from tests.chaos.evidence import Made, ProviderSession

_TIMEOUT_S = 30.0


class _Head(msgspec.Struct):
    id: str
    type: str


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Message(msgspec.Struct):
    content: list[_Block]


class _Thread(msgspec.Struct):
    events: list[msgspec.Raw]


class _Session(msgspec.Struct):
    status: str
    archived_at: str | None = None


class _Log(msgspec.Struct):
    session: _Session
    deleted: bool
    spent_micro_usd: float
    user_messages: list[_Message]
    events: list[msgspec.Raw]
    stream_only: list[msgspec.Raw]
    threads: dict[str, _Thread]


class Provider:
    """The simulator of one stack. Calls raise httpx2.HTTPError: the judge itself is never struck."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.AsyncClient(base_url=url, timeout=_TIMEOUT_S)

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def misbehave(self, rules: Sequence[dict[str, Any]]) -> None:
        """Follow these rules and no others; none: behave."""
        answer = await self._http.post("/_sim/faults", json={"rules": list(rules)})
        answer.raise_for_status()

    async def struck(self) -> int:
        """How many requests met a fault of the rules in force."""
        rules = (await self._http.get("/_sim/faults")).raise_for_status().json()["rules"]
        return sum(rule["done"] for rule in rules)

    async def silenced(self) -> dict[str, str]:
        """Provider sessions of which a stream was made to say nothing of late, with the last such request."""
        noted = (await self._http.get("/_sim/requests")).raise_for_status().json()["data"]
        silent = [one for one in noted if one.get("fault") == "silent"]
        return {one["path"].split("/")[3]: one["request_id"] for one in silent}

    async def by_session(self, tenant_id: str) -> dict[str, list[str]]:
        """Our session ids to the provider sessions made for them, oldest first."""
        listed = (await self._http.get("/_sim/sessions")).raise_for_status().json()["data"]
        found: dict[str, list[str]] = {}
        for one in listed:
            for mark in one["metadata"].values():
                tenant, _, session = mark.partition("/")
                if tenant == tenant_id:
                    found.setdefault(session, []).append(one["id"])
        return found

    async def log(self, ident: str) -> ProviderSession:
        """All of one provider session."""
        answer = (await self._http.get(f"/_sim/sessions/{ident}")).raise_for_status()
        log = msgspec.json.decode(answer.content, type=_Log)
        events = list(_made(log.events, ""))
        for thread, its in log.threads.items():
            events += _made(its.events, thread)
        return ProviderSession(
            id=ident,
            messages=[
                [block.text for block in message.content if block.type == "text"]
                for message in log.user_messages
            ],
            events=events,
            unlisted=frozenset(msgspec.json.decode(raw, type=_Head).id for raw in log.stream_only),
            over=log.deleted
            or log.session.archived_at is not None
            or log.session.status == "terminated",
            deleted=log.deleted,
            bill=log.spent_micro_usd,
        )


def _made(events: Iterable[msgspec.Raw], thread: str) -> Iterable[Made]:
    """An event of the primary thread between the session's idle and the next sign of work is late."""
    resting = False
    for raw in events:
        head = msgspec.json.decode(raw, type=_Head)
        if head.type.startswith("user.") or head.type == "session.status_running":
            resting = False
        yield Made(head.id, head.type, thread, bytes(raw), late=resting)
        resting |= head.type == "session.status_idle"
