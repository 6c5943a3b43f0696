"""Routes and admission: one HTTP request from its first byte to the last of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from infra.clickhouse.server.answer import base_headers, error_reply
from infra.clickhouse.server.body import ClientGone, Receive, decode, read_body
from infra.clickhouse.server.engine import Engine
from infra.clickhouse.server.errors import (
    TOO_MANY_QUERIES,
    UNKNOWN_EXCEPTION,
    ClickHouseError,
    refuse,
)
from infra.clickhouse.server.execute import Outcome, execute
from infra.clickhouse.server.multipart import read_form
from infra.clickhouse.server.request import Asked, read_request
from infra.clickhouse.server.send import BrokenResult, Send, Sender
from infra.clickhouse.server.sessions import Sessions
from infra.clickhouse.server.users import User, Users

_ALIVE = ("/ping", "/replicas_status")


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_body_bytes` counts after decompression; times are in seconds."""

    max_queries: int = 64
    max_body_bytes: int = 256 << 20
    max_execution_time: float = 300.0
    idle_body: float = 60.0


class App:
    """The ASGI application. Bounded: `limits.max_queries` requests at once, the next get 503."""

    def __init__(
        self,
        engine: Engine,
        users: Users,
        limits: Limits,
        sessions: Sessions,
        new_id: Callable[[], str],
    ) -> None:
        self._engine = engine
        self._users = users
        self._limits = limits
        self._sessions = sessions
        self._new_id = new_id
        self._running = 0
        self.pool = ThreadPoolExecutor(limits.max_queries, thread_name_prefix="query")

    async def __call__(
        self, scope: dict[str, Any], receive: Receive, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        sender = Sender(Send(send, receive), self.pool, head_only=scope["method"] == "HEAD")
        path = unquote(scope["path"])
        if path in _ALIVE or (path == "/" and _says_nothing(scope)):
            await sender.whole(200, [(b"content-type", b"text/html; charset=UTF-8")], b"Ok.\n")
        elif path not in ("/", "/query"):
            await sender.whole(404, [], _NOWHERE % path.encode())
        else:
            await self._answer(scope, receive, sender)

    async def _answer(self, scope: dict[str, Any], receive: Receive, sender: Sender) -> None:
        query_id = self._new_id()
        try:
            asked = read_request(scope["method"], scope["query_string"], scope["headers"])
            asked.query_id = query_id = asked.query_id or query_id
            user = self._limited(self._users.authenticate(asked.user, asked.password))
            if self._running >= self._limits.max_queries:
                raise refuse(
                    TOO_MANY_QUERIES,
                    f"Too many simultaneous queries. Maximum: {self._limits.max_queries}",
                )
            self._running += 1
            try:
                await self._run(user, asked, receive, sender)
            finally:
                self._running -= 1
        except (ClientGone, BrokenResult):
            return  # without an end: the server cuts the connection, so nobody takes it for whole
        except Exception as error:
            await self._fail(error, query_id, sender)

    def _limited(self, user: User) -> User:
        base = {"max_execution_time": f"{self._limits.max_execution_time:g}"}
        return replace(user, settings={**base, **user.settings})

    async def _run(self, user: User, asked: Asked, receive: Receive, sender: Sender) -> None:
        limits = self._limits
        pieces = await read_body(
            receive, limit=limits.max_body_bytes, idle_seconds=limits.idle_body
        )
        outcome = await asyncio.get_running_loop().run_in_executor(
            self.pool, self._start, user, asked, pieces
        )
        del pieces  # the engine has them; a long result should not hold the request too
        headers = base_headers(asked.query_id, self._engine.timezone)
        try:
            await sender.result(asked, outcome, headers, tag=self._new_id().replace("-", "")[:16])
        finally:
            if not outcome.closed:
                await asyncio.get_running_loop().run_in_executor(self.pool, outcome.close)

    def _start(self, user: User, asked: Asked, pieces: list[bytes]) -> Outcome:
        encoding = asked.headers.get("content-encoding", "").strip().lower()
        pieces = decode(pieces, encoding, limit=self._limits.max_body_bytes)
        if asked.headers.get("content-type", "").startswith("multipart/form-data"):
            pieces = read_form(asked, b"".join(pieces))
        lease = self._sessions.lease(user, asked)
        try:
            outcome = execute(self._engine, lease, user, asked, pieces)
        except BaseException:
            self._sessions.release(lease)
            raise
        outcome.on_close = lambda: self._sessions.release(lease)
        if outcome.stream is None:
            outcome.close()  # before the answer: the client's next request may be there at once
        return outcome

    async def _fail(self, error: Exception, query_id: str, sender: Sender) -> None:
        if sender.started:
            raise error  # the head is out: only a cut connection can tell the client
        if not isinstance(error, ClickHouseError):
            error = refuse(UNKNOWN_EXCEPTION, f"{type(error).__name__}: {error}")
        status, headers, body = error_reply(error, self._engine.version)
        await sender.whole(status, base_headers(query_id, self._engine.timezone) + headers, body)


_NOWHERE = (
    b"There is no handle %s\n\n"
    b"Use / or /ping for health checks, / with a query (in the body or in `query`) for the rest.\n"
)


def _says_nothing(scope: dict[str, Any]) -> bool:
    return scope["method"] in ("GET", "HEAD") and b"query" not in scope["query_string"]
