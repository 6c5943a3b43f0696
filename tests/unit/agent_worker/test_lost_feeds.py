"""A provider session that takes nothing any more is told of only behind all that its lists have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anthropic
import httpx2
import pytest

from infra.simulator.play import status
from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider import stream
from services.agent_worker.provider.feed import SessionFeed
from services.agent_worker.provider.room import Room
from shared.moment import rfc3339
from shared.session import decide, initial, provider
from shared.session.inputs import Bound, Filed, TurnRequested
from shared.session.state import SessionState
from tests.builders import SESSION, TENANT, USER
from tests.unit.agent_worker.provider_tape import BEGIN, CALM, Tape, now
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK looks up the platform's name in a thread, which virtual time knows nothing of."""

    def inline(function: Callable[[], str]) -> Callable[[], Awaitable[str]]:
        async def call() -> str:
            return function()

        return call

    monkeypatch.setattr("anthropic._base_client.asyncify", inline)


def at() -> str:
    return rfc3339(datetime.fromtimestamp(BEGIN / 1e6 + now(), UTC))


def running(tape: Tape, text: str) -> SessionState:
    """A session whose turn was sent to the tape's provider session."""
    whose: dict[str, Any] = {"tenant_id": TENANT, "session_id": SESSION, "user_id": USER}
    request = TurnRequested(**whose, at=at(), turn_id="t1", content=text)
    state = decide(initial(TENANT, SESSION), Filed(input_id="turn:1", request=request)).state
    bound = Bound(provider_session_id=tape.id, agent="a", model="m", at=at())
    state = decide(state, bound).state
    assert tape.put({"type": "user.message", "content": [{"type": "text", "text": text}]})
    return state


def listening(tape: Tape, state: SessionState, *, fresh: bool) -> SessionFeed:
    return SessionFeed(
        tape.client,
        state,
        fresh=fresh,
        now=at,
        chance=lambda: 0.5,
        on_preview=lambda raw: None,
        room=Room(),
    )


def listed(tape: Tape) -> set[str]:
    threads = (None, *(id for id, thread in tape.session.threads.items() if thread.parent))
    return {provider.head(raw).id for thread in threads for raw in tape.listed(thread)}


@virtual
async def test_a_stream_that_is_refused_for_good_is_told_behind_the_list() -> None:
    tape = Tape(1, CALM)
    await tape.begin()
    state = running(tape, "[[script: terminal]]")

    @asynccontextmanager
    async def refused(client: Any, session: str) -> AsyncIterator[AsyncIterator[bytes]]:
        error = {"type": "invalid_request_error", "message": "the session is terminated"}
        request = httpx2.Request("GET", "http://tape")
        response = httpx2.Response(400, request=request)
        body = {"type": "error", "error": error}
        raise anthropic.BadRequestError("400", response=response, body=body)
        yield

    heard: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "primary", tape.primary)
        await _hear_the_end(listening(tape, state, fresh=True))
        patch.setattr(stream, "primary", refused)
        feed = listening(tape, state, fresh=False)
        with pytest.raises(ProviderFailure) as failed:
            await _hear_all(feed, heard)
        await feed.close()
    assert failed.value.lost
    assert heard == listed(tape) != set()


@virtual
async def test_what_children_said_comes_before_the_end_of_the_session() -> None:
    """Whoever hears the end listens no more, and a child's stream may be behind."""

    @asynccontextmanager
    async def silent(client: Any, session: str, thread: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async def nothing() -> AsyncIterator[bytes]:
            await asyncio.sleep(3600)
            yield b""

        yield nothing()

    tape = Tape(1, CALM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "primary", tape.primary)
        patch.setattr(stream, "child", silent)
        await tape.begin()
        feed = listening(tape, running(tape, "[[script: threads children=2 pace=0.1]]"), fresh=True)
        heard: list[Any] = []
        while not any(len(thread.log.ordered()) > 4 for thread in _children(tape)):
            heard += await feed.next()
        status.terminate(tape.session, listed=True)
        said = listed(tape)
        async with asyncio.timeout(30):
            while "session.status_terminated" not in [event.type for event in heard]:
                heard += await feed.next()
        await feed.close()
    kinds = [event.type for event in heard]
    before = heard[: kinds.index("session.status_terminated") + 1]
    assert any(event.thread_id for event in before)
    assert said <= {event.id for event in before}


async def _hear_the_end(feed: SessionFeed) -> None:
    kinds: set[str] = set()
    while "session.status_terminated" not in kinds:
        kinds |= {event.type for event in await feed.next()}
    await feed.close()


async def _hear_all(feed: SessionFeed, heard: set[str]) -> None:
    while True:
        heard |= {event.id for event in await feed.next()}


def _children(tape: Tape) -> list[Any]:
    return [thread for thread in tape.session.threads.values() if thread.parent]
