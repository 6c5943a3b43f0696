"""Faults of event streams, after a number of events."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.types import Message, Scope, Send

from infra.simulator.faults.cutting import drop, hang_up
from infra.simulator.faults.rules import Fault

GARBAGE = b'event: message\ndata: {"type":"agent.message","id":"sevt_01\n\n'


class FaultyStream:
    """A `send` that spoils the body of a stream. Answers that are no stream pass unharmed.

    Counts events, previews among them; comments do not count.
    """

    def __init__(self, fault: Fault, scope: Scope, send: Send) -> None:
        self._fault = fault
        self._scope = scope
        self._send = send
        self._left = fault.after
        self._stream = False
        self._over = False
        self._ends: dict[str, Callable[[bytes], bytes]] = {
            "cut": lambda record: b"",
            "reset": lambda record: b"",
            "truncate": lambda record: record[: len(record) // 2],
            "error_event": lambda record: self._error(),
            "silent": lambda record: b"",
        }

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kinds = dict(message["headers"]).get(b"content-type", b"")
            self._stream = kinds.startswith(b"text/event-stream")
            await self._send(message)
            return
        if not self._stream:
            await self._send(message)
        elif not self._over:
            await self._body(message)

    async def _body(self, message: Message) -> None:
        out, struck = self._spoil(message.get("body", b""))
        if out or not message.get("more_body"):
            await self._send({**message, "body": out})
        if struck:
            self._over = True
            await self._end()

    def _spoil(self, body: bytes) -> tuple[bytes, bool]:
        """The bytes to send instead, and whether the fault ends the stream after them."""
        out: list[bytes] = []
        for record in _records(body):
            if record.startswith(b":"):
                out.append(record)
            elif self._left > 0:
                self._left -= 1
                out.append(record)
            elif self._fault.kind == "duplicate":
                out += [record, record]
            elif self._fault.kind == "bad_json":
                out.append(GARBAGE)
                self._left = 1 << 62  # once
            else:
                out.append(self._ends[self._fault.kind](record))
                return b"".join(out), True
        return b"".join(out), False

    async def _end(self) -> None:
        if self._fault.kind == "reset":
            drop(self._scope)
        elif self._fault.kind == "truncate":
            hang_up(self._scope)
        elif self._fault.kind in ("cut", "error_event"):
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        # silent: the connection stays open and nothing more comes

    def _error(self) -> bytes:
        error = {"type": self._fault.error_type, "message": self._fault.message}
        body = msgspec.json.encode({"type": "error", "error": error})
        return b"event: error\ndata: " + body + b"\n\n"


def _records(body: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in body.split(b"\n\n") if part]
