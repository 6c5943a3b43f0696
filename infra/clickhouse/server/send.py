"""Puts an answer on the wire, a block at a time, as fast as the client takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from infra.clickhouse.server.answer import Headers, Packer, broken_stream, packer, result_headers
from infra.clickhouse.server.body import Receive
from infra.clickhouse.server.errors import ClickHouseError
from infra.clickhouse.server.execute import Outcome
from infra.clickhouse.server.frames import FramePacker
from infra.clickhouse.server.request import Asked


@dataclass(frozen=True, slots=True)
class Send:
    message: Callable[[Any], Awaitable[None]]
    receive: Receive


class BrokenResult(Exception):
    """A query failed in the middle of its result; the connection must not end well."""


class Sender:
    """`started` is true once the head is out and an error can no longer have a status."""

    def __init__(self, wire: Send, pool: Executor, *, head_only: bool) -> None:
        self._wire = wire
        self._pool = pool
        self._head_only = head_only
        self.started = False

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        await self._head(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self._piece(b"" if self._head_only else body, more=False)

    async def result(self, asked: Asked, outcome: Outcome, headers: Headers, tag: str) -> None:
        """Send a result. Raises BrokenResult after an error in mid-stream."""
        headers = headers + result_headers(outcome.format, outcome.summary)
        accepted = asked.headers.get("accept-encoding", "")
        size = sum(len(block) for block in outcome.blocks)
        pack: Packer | None
        if asked.frames:
            encoding = ""
            pack = FramePacker(asked.frame_method)
        else:
            encoding, pack = packer(accepted, enabled=asked.compress, size=size)
        if encoding:
            headers.append((b"content-encoding", encoding.encode()))
        if outcome.stream is None:
            body = await self._in_thread(_packed, outcome.blocks, pack)
            await self.whole(200, headers, body)
            return
        await self._head(200, [*headers, (b"x-clickhouse-exception-tag", tag.encode())])
        await self._streamed(outcome, pack, tag, raw_errors=asked.frames)

    async def _streamed(
        self, outcome: Outcome, pack: Packer | None, tag: str, *, raw_errors: bool
    ) -> None:
        gone = asyncio.ensure_future(self._wire.receive())  # resolves when the client hangs up
        try:
            for block in outcome.blocks:
                await self._piece(await self._in_thread(_pressed, block, pack), more=True)
            while not gone.done():
                block = await self._in_thread(outcome.next_block)
                if block is None:
                    await self._in_thread(outcome.close)
                    await self._piece(bytes(pack.finish()) if pack else b"", more=False)
                    return
                await self._piece(await self._in_thread(_pressed, block, pack), more=True)
        except ClickHouseError as error:
            last = broken_stream(error, tag)
            # Beside ClickHouse's frames, not in one: that is where its clients look for it.
            await self._piece(_packed([last], None if raw_errors else pack), more=True)
            raise BrokenResult(error.text) from None
        finally:
            gone.cancel()

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def _head(self, status: int, headers: Headers) -> None:
        self.started = True
        await self._wire.message(
            {"type": "http.response.start", "status": status, "headers": headers}
        )

    async def _piece(self, body: bytes, *, more: bool) -> None:
        await self._wire.message({"type": "http.response.body", "body": body, "more_body": more})


def _pressed(block: bytes, pack: Packer | None) -> bytes:
    if pack is None:
        return block
    pack.compress(block)
    return bytes(pack.flush())


def _packed(blocks: list[bytes], pack: Packer | None) -> bytes:
    if pack is None:
        return b"".join(blocks)
    for block in blocks:
        pack.compress(block)
    return bytes(pack.finish())
