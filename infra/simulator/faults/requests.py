"""Faults of plain requests, before they land or after."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.simulator.errors import ApiError, refuse
from infra.simulator.faults.cutting import drop
from infra.simulator.faults.rules import Fault


async def strike(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Plays a request fault.

    `respond`, `drop` and `delay` come before the request takes effect (after `delay` it still
    does); the `land_then_…` kinds run it first and spoil only the answer.
    """
    if fault.kind == "respond":
        await refuse(_refusal(fault), scope["request_id"], send)
    elif fault.kind == "drop":
        await _sever(scope, receive)
    elif fault.kind == "delay":
        await asyncio.sleep(fault.seconds)
        await app(scope, receive, send)
    else:
        await _land(fault, app, scope, receive, send)


async def _land(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    answer: list[Message] = []

    async def keep(message: Message) -> None:
        answer.append(message)

    await app(scope, receive, keep)
    if fault.kind == "land_then_drop":
        await _sever(scope, receive)
        return
    if fault.kind == "land_then_respond":
        await refuse(_refusal(fault), scope["request_id"], send)
        return
    await asyncio.sleep(fault.seconds)
    for message in answer:
        await send(message)


async def _sever(scope: Scope, receive: Receive) -> None:
    """Breaks the connection and waits until the server has noticed."""
    drop(scope)
    while (await receive())["type"] != "http.disconnect":
        pass


def _refusal(fault: Fault) -> ApiError:
    return ApiError(fault.status, fault.message, error_code=fault.error_code, headers=fault.headers)
