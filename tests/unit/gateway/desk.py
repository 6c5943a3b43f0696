"""A gateway on memory ports, and builders for what comes in."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

import httpx2
import msgspec

from services.gateway.accept import Accept
from services.gateway.claims import Claims
from services.gateway.confirmations import Confirmations
from services.gateway.connect.hosts import Hosts
from services.gateway.connect.links import Connects
from services.gateway.gate import Gate
from services.gateway.http.app import Rooms, build
from services.gateway.http.auth import Keys
from services.gateway.http.connection import TRANSPORT
from services.gateway.http.openapi import complete
from services.gateway.http.sse import Shares
from services.gateway.ports import Entry, Record
from services.gateway.read_model.caught_up import CaughtUp
from services.gateway.read_model.projector import Projector
from services.gateway.register import Register
from services.gateway.reuse import Reuse
from services.gateway.siblings import Siblings
from services.gateway.streams.history import History
from services.gateway.streams.live import Live, read_heading
from services.gateway.vaults import OwnVaults
from shared.bus.topics import INPUTS
from shared.clock import Clock
from shared.moment import rfc3339
from shared.ownership import Ownership, Unbound
from shared.session.events import Event
from shared.session.key import SessionKey
from tests.documented import require_documented
from tests.fakes.connects import MemoryLinks, MemoryOauth
from tests.fakes.gateway import (
    MemoryEventArchive,
    MemoryEventLog,
    MemoryInputPublisher,
    MemoryReadModel,
    MemoryRecordConsumer,
    MemoryUsers,
)
from tests.fakes.owners import MemoryOwners
from tests.fakes.releases import MemoryReleases
from tests.fakes.vaults import MemoryVaults

KEYS = {
    "key-a": ("acme", frozenset[str]()),
    "key-b": ("other", frozenset[str]()),
    "key-r": ("acme", frozenset({"read"})),
    "key-w": ("acme", frozenset({"write"})),
}
NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
KEY: SessionKey = ("acme", "ses_1")


def an_event(
    seq: int,
    type: str = "agent.message",
    data: Mapping[str, Any] | None = None,
    *,
    key: SessionKey = KEY,
    turn_id: str | None = "turn_1",
    at: datetime = NOON,
) -> bytes:
    """An event's JSON as the worker publishes it."""
    body = dict(data or {"id": f"sevt_{seq}", "type": type, "content": []})
    event = Event(
        tenant_id=key[0],
        session_id=key[1],
        seq=seq,
        event_id=f"{key[1]}:{seq}",
        type=type,
        turn_id=turn_id,
        at=rfc3339(at),
        user_id="u1",
        data=msgspec.Raw(msgspec.json.encode(body)),
    )
    return msgspec.json.encode(event)


def an_entry(seq: int, **how: Any) -> Entry:
    """The same event on its way to a client."""
    value = an_event(seq, **how)
    heading = read_heading(value)
    return Entry(seq, heading.type, heading.at, value)


@dataclass
class Desk:
    """One gateway in memory, and its parts to look at or to break."""

    inputs: MemoryInputPublisher = field(default_factory=MemoryInputPublisher)
    read_model: MemoryReadModel = field(default_factory=MemoryReadModel)
    users: MemoryUsers = field(default_factory=MemoryUsers)
    releases: MemoryReleases = field(default_factory=MemoryReleases)
    archive: MemoryEventArchive = field(default_factory=MemoryEventArchive)
    log: MemoryEventLog = field(default_factory=MemoryEventLog)
    live: Live = field(default_factory=Live)
    shares: Shares = field(
        default_factory=lambda: Shares(
            total=9, tenant=9, key=9, max_age=60.0, stall=60.0, chance=lambda: 0.0
        )
    )
    register: Register = field(default_factory=Register)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    patience: float = 0.0
    clock: Clock = lambda: NOON
    gate: Gate = field(default_factory=lambda: Gate(100, 0))
    reuse: Literal["never", "user", "user_agent"] = "never"
    owners: MemoryOwners = field(default_factory=MemoryOwners)
    unbound: Unbound = "bind"
    vaults: MemoryVaults = field(default_factory=MemoryVaults)
    links: MemoryLinks = field(default_factory=MemoryLinks)
    oauth: MemoryOauth = field(default_factory=MemoryOauth)
    connect_key: str = "0123456789abcdef0123456789abcdef"
    public_url: str = ""
    origins: tuple[str, ...] = ()
    takes_oauth: bool = True
    place: str = ""

    def __post_init__(self) -> None:
        counter = itertools.count(1)

        def ids(prefix: str) -> str:
            return f"{prefix}{next(counter)}{self.place}"

        self.history = History(self.archive, self.log, self.live, self.read_model)
        self.accept = Accept(
            self.inputs,
            self.read_model,
            self.register,
            Claims(self.read_model),
            Reuse(self.users, self.read_model, self.register, self.reuse, ids),
            self._ownership(),
            self.gate,
            self.clock,
            ids,
        )
        self.confirmations = Confirmations(self.accept, self.read_model, again_after=0.05)
        vaults = OwnVaults(
            self.vaults, self.owners, self.confirmations, self.clock, self.takes_oauth
        )
        rooms = Rooms(
            accept=self.accept,
            read_model=self.read_model,
            caught_up=CaughtUp(self.read_model, self.live.ring, self.patience),
            history=self.history,
            costs=self.archive,
            profiles=self.users,
            releases=self.releases,
            vaults=vaults,
            connects=Connects(
                self.links,
                vaults,
                self.oauth,
                Hosts(("127.0.0.1",)),
                key=self.connect_key,
                seconds=3600.0,
                origins=self.origins,
                clock=lambda: self.clock(),
                chance=lambda: f"{next(counter):043d}",
            ),
            register=self.register,
            live=self.live,
            shares=self.shares,
            checks={
                "kafka": self.inputs.check,
                "database": self.read_model.check,
                "clickhouse": self.archive.check,
            },
            metrics=Siblings({}).metrics,
            closing=self.closing,
            patience=self.patience,
            public_url=self.public_url,
        )
        self.app = build(rooms, Keys(KEYS))

    def _ownership(self) -> Ownership:
        return Ownership(
            self.owners,
            unbound=self.unbound,
            defaults=(),
            clock=self.clock,
            monotonic=lambda: 0.0,
            released=self.releases.has,
        )

    @asynccontextmanager
    async def client(self, key: str | None = "key-a") -> AsyncIterator[httpx2.AsyncClient]:
        """An HTTP client of this gateway; answers come whole, so it is not for streams."""
        transport = httpx2.ASGITransport(app=self.app)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx2.AsyncClient(
            transport=transport,
            base_url="http://gateway",
            headers=headers,
            event_hooks={"response": [self._as_documented]},
        ) as client:
            yield client

    async def _as_documented(self, answer: httpx2.Response) -> None:
        """Fails the test when the document does not say that there may be such an answer."""
        await answer.aread()
        require_documented(document(), answer)

    async def open(self, session_id: str = "ses_1", **body: Any) -> None:
        """Open a session through HTTP."""
        async with self.client() as client:
            wish = {"user_id": "u1", "session_id": session_id, **body}
            answer = await client.post("/v1/sessions", json=wish)
        assert answer.status_code == 201, answer.text

    async def project(self) -> None:
        """What was published reaches the tables, as the projector's process brings it there."""
        records = [
            Record(INPUTS.name, 0, offset, envelope.subject.encode(), value, envelope.headers())
            for offset, (envelope, value) in enumerate(self.inputs.published)
        ]
        await Projector(MemoryRecordConsumer([records]), self.read_model, lambda _: True).step()

    def publish(self, seq: int, **how: Any) -> None:
        """An event is published and heard live; the log keeps it."""
        entry = an_entry(seq, **how)
        heading = read_heading(entry.value)
        self.log.entries.setdefault((heading.tenant_id, heading.session_id), []).append(entry)
        self.live.event(heading, entry.value)

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[OpenStream]:
        """GET a stream; it is hung up at the end of the block."""
        stream = OpenStream(path, {"authorization": "Bearer key-a", **(headers or {})})
        task = asyncio.ensure_future(self.app(stream.scope, stream.receive, stream.send))
        try:
            yield stream
        finally:
            stream.hang_up.set()
            await asyncio.wait_for(task, 5)


@cache
def document() -> dict[str, Any]:
    """What /openapi.json says, without a request for it."""
    framework: Any = Desk().app
    return complete(framework._app.openapi())


class OpenStream:
    """A client that reads a stream record by record."""

    def __init__(self, path: str, headers: Mapping[str, str]) -> None:
        path, _, query = path.partition("?")
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), v.encode()) for name, v in headers.items()],
            "server": ("gateway", 80),
            "client": ("client", 1),
            TRANSPORT: self,
        }
        self.aborted = asyncio.Event()
        self.hang_up = asyncio.Event()
        self.paused = asyncio.Event()
        self.paused.set()
        self.status = 0
        self.ended = False
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._records: deque[str] = deque()

    async def receive(self) -> dict[str, Any]:
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.paused.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if message["body"]:
            self._chunks.put_nowait(message["body"])
        if not message.get("more_body"):
            self.ended = True
            self._chunks.put_nowait(None)

    def abort(self) -> None:
        """What is left of the connection is dropped."""
        self.aborted.set()
        self.hang_up.set()

    async def chunk(self) -> bytes | None:
        """The next piece as it was sent; None at the end."""
        return await asyncio.wait_for(self._chunks.get(), 5)

    async def opened(self) -> None:
        """Wait until a stream with nothing to send yet says that it is open."""
        assert await self.chunk() == b"retry: 2000\n\n"
        assert await self.chunk() == b": open\n\n"

    async def record(self) -> dict[str, str]:
        """The next record's fields, comments left out; {} when the stream ended."""
        while True:
            while self._records:
                lines = self._records.popleft().split("\n")
                found = dict(
                    line.split(": ", 1) for line in lines if not line.startswith((":", "retry:"))
                )
                if found:
                    return found
            chunk = await self.chunk()
            if chunk is None:
                return {}
            self._records.extend(chunk.decode().removesuffix("\n\n").split("\n\n"))

    async def seqs(self, count: int) -> list[int]:
        """The ids of the next `count` records."""
        return [int((await self.record())["id"]) for _ in range(count)]
