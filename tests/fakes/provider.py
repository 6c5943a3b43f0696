"""Provider in memory: sessions that play a script at once and remember all they were sent.

What a message asks for is in its text, in the simulator's words: `[[script: confirm]]`, `custom_tool`, `tools`,
`threads`, `refusal`, `hold`, `late=1`; and in our own: `confirm_two`, `ask_both` (a permission and a custom tool),
`own_tool`, a custom tool named `clock`, `long_tool`, which takes until it is released. Anything else is answered
with its own text. Ids and times are counted, so that two runs over the same calls give the same bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from services.agent_worker.ports import ProviderFailure, ProviderFeed, ProviderSession
from shared.session.inputs import ProviderEvent, ToolAnswered, ToolConfirmed
from shared.session.outcome import outcome_in
from shared.session.state import SessionState
from tests.fakes.conversation import Conversation

AGENT, MODEL = "agent_memory", "model-memory"


class MemoryProvider:
    """The Provider port. A feed gives up to `chunk` events at a time.

    `refusals`: failures that the next sends meet before they land, one each; `refuses`: all of them do.
    `lost_answers`: the next sends land and their answers are lost; None where looking tells, else the failure that
    looking met, too. `lost_openings`: the next sessions are made, and nobody hears of it. `fates`: what befalls the
    work on the next messages, a word of `conversation.FATES`, "deaf", or "" for nothing. `clock`: where events
    are to have its times.
    """

    def __init__(self, *, chunk: int = 2) -> None:
        self.sessions: dict[str, Conversation] = {}
        self.refusals: deque[ProviderFailure] = deque()
        self.refuses: ProviderFailure | None = None
        self.lost_answers: deque[ProviderFailure | None] = deque()
        self.lost_openings: deque[ProviderFailure] = deque()
        self.fates: deque[str] = deque()
        self.clock: Callable[[], datetime] | None = None
        self.model = MODEL
        self._chunk = chunk

    async def open(self, state: SessionState, *, look: bool) -> ProviderSession:
        """See Provider.open."""
        mark = f"{state.tenant_id}/{state.session_id}"
        alive = [id for id, s in self.sessions.items() if s.mark == mark and not s.closed]
        orphans = [id for id in alive if id not in state.given_up]
        if look and orphans:
            return ProviderSession(orphans[-1], AGENT, self.model)
        made = self._make(f"sesn_{len(self.sessions) + 1}", mark)
        self.sessions[made.id] = made
        if self.lost_openings:
            raise self.lost_openings.popleft()
        return ProviderSession(made.id, AGENT, self.model)

    async def send(self, state: SessionState, content: Any, *, look: bool) -> None:
        """See Provider.send."""
        session = self._alive(state)
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if state.rotated_from is not None:
            blocks = _behind(past_of(state.rotated_from), blocks)
        if look and session.has_unrecorded(blocks, state.prompts):
            return
        if self.refusals:
            raise self.refusals.popleft()
        if self.refuses is not None:
            raise self.refuses
        session.say(blocks, self.fates.popleft() if self.fates else "")
        if self.lost_answers and (unknown := self.lost_answers.popleft()) is not None:
            raise unknown

    async def interrupt(self, state: SessionState) -> None:
        """See Provider.interrupt."""
        self._alive(state).interrupt()

    async def answer(self, state: SessionState, request: ToolConfirmed | ToolAnswered) -> None:
        """See Provider.answer."""
        session = self._alive(state)
        if isinstance(request, ToolConfirmed):
            body: dict[str, Any] = {"tool_use_id": request.tool_use_id, "result": request.result}
            session.answer(request.tool_use_id, "user.tool_confirmation", body)
        else:
            call = request.custom_tool_use_id
            body = {"custom_tool_use_id": call, "content": request.content}
            body["is_error"] = request.is_error
            session.answer(call, "user.custom_tool_result", body)

    async def set_budget(self, provider_session_id: str, cents: int) -> None:
        """See Provider.set_budget."""
        session = self.sessions.get(provider_session_id)
        if session is None or session.closed:
            raise gone()
        session.raise_budget(cents)

    async def close(self, provider_session_id: str, *, erase: bool) -> None:
        """See Provider.close."""
        session = self.sessions.get(provider_session_id)
        if session is not None:
            session.close(erase=erase)

    @asynccontextmanager
    async def watch(
        self, state: SessionState, *, fresh: bool, on_preview: Callable[[bytes], None]
    ) -> AsyncIterator[ProviderFeed]:
        """See Provider.watch."""
        session = self.sessions.get(state.provider_session_id or "")
        if session is None or session.erased:
            raise gone()
        tails = (id for tail in state.threads.values() for id in tail)
        feed = MemoryProviderFeed(session, {*state.prompts, *state.tail, *tails}, self._chunk)
        session.previews.add(on_preview)
        try:
            yield feed
        finally:
            session.previews.discard(on_preview)

    def _make(self, id: str, mark: str) -> Conversation:
        return Conversation(id, mark, self.clock)

    def _alive(self, state: SessionState) -> Conversation:
        session = self.sessions.get(state.provider_session_id or "")
        if session is None or session.closed:
            raise gone()
        return session


def gone() -> ProviderFailure:
    return ProviderFailure("not_found_error", "no such session", lost=True)


def past_of(session: str) -> str:
    """What a message carries along from an earlier provider session."""
    return f"(what was said in {session})"


class MemoryProviderFeed:
    """See ProviderFeed. Starts behind the newest event that is known. Of a session that was over before, it has
    what is listed: all but its end."""

    def __init__(self, session: Conversation, known: set[str], chunk: int) -> None:
        self._session = session
        self._chunk = chunk
        places = [n for n, event in enumerate(session.log, start=1) if event.id in known]
        self._next = max(places, default=0)
        self._over = session.closed

    async def opened(self) -> None:
        """See ProviderFeed.opened."""
        await asyncio.sleep(0)

    async def next(self) -> tuple[ProviderEvent, ...]:
        """See ProviderFeed.next."""
        while self._next >= self._end():
            if self._session.erased or self._over:
                raise ProviderFailure("session_lost", "the session is over", lost=True)
            await self._session.moved.wait()
        await asyncio.sleep(0)
        batch = tuple(self._session.log[self._next : min(self._next + self._chunk, self._end())])
        self._next += len(batch)
        return batch

    def _end(self) -> int:
        """How many events there are to give."""
        log = self._session.log
        return len(log) - (self._over and log[-1].type == "session.status_terminated")


def _behind(past: str, blocks: list[Any]) -> list[Any]:
    """The content behind what was said before."""
    outcome = outcome_in(blocks)
    if outcome is None:
        return [{"type": "text", "text": past}, *blocks]
    return [{**outcome, "description": f"{past}\n\n{outcome['description']}"}]
