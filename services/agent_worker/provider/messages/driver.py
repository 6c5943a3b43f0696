"""The Provider port on the Messages API, and the choice between the two runtimes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import msgspec
from anthropic import AsyncAnthropic

from services.agent_worker.ports import (
    Conversations,
    Entry,
    Profiles,
    Provider,
    ProviderFailure,
    ProviderFeed,
    ProviderSession,
)
from services.agent_worker.provider.front import LOST, SPEAKERS, told
from services.agent_worker.provider.messages.agents import Agent
from services.agent_worker.provider.messages.conversation import Conversation
from services.agent_worker.provider.messages.window import Windows
from services.agent_worker.session.prompt import about_user, blocks
from shared.clock import Clock
from shared.errors import Transient
from shared.moment import rfc3339
from shared.session import provider
from shared.session.inputs import ToolAnswered, ToolConfirmed
from shared.session.outcome import outcome_in
from shared.session.state import SessionState

UNSUPPORTED = {
    "budget_usd": "use a cap (turnstile cost caps) in its place",
    "vault_ids": "its agents have no MCP servers that would need one",
    "resources": "its agents have no container to have them in",
}
_agent = msgspec.json.Decoder(Agent)


class MessagesProvider:
    """See Provider. `agents` are those of new conversations, by name; `default` is whose sessions that name none
    are."""

    def __init__(
        self,
        client: AsyncAnthropic,
        store: Conversations,
        profiles: Profiles,
        agents: Mapping[str, Agent],
        default: str | None,
        *,
        clock: Clock,
    ) -> None:
        self._client = client
        self._store = store
        self._profiles = profiles
        self._agents = agents
        self._default = default
        self._clock = clock
        self._windows = Windows(client)
        self._watched: dict[str, Conversation] = {}

    def has(self, state: SessionState) -> bool:
        """Whether a session is, or would be, one of these."""
        if state.provider_session_id is not None:
            return state.provider_session_id.startswith(provider.CONVERSATION)
        return (state.agent or self._default) in self._agents

    async def open(self, state: SessionState, *, look: bool) -> ProviderSession:
        """See Provider.open. The id follows from the session, so an earlier try has begun this very one."""
        for name, instead in UNSUPPORTED.items():
            if getattr(state, name):
                words = f"{name}: sessions on the Messages API have none; {instead}"
                raise ProviderFailure("unsupported_by_runtime", words, final=True)
        agent, id = self._agents[state.agent or self._default or ""], conversation_of(state)
        first = Entry(position=0, source="open", said=msgspec.json.encode(agent))
        key = (state.tenant_id, state.session_id)
        with _passing():
            begun = await self._store.open(key, id, first)
        agent = _agent.decode(begun.said)
        return ProviderSession(id, agent.name, agent.model)

    async def send(self, state: SessionState, content: Any, *, look: bool) -> None:
        """See Provider.send. The turn and its attempt say which message it is: one that is there is not put
        again."""
        said = blocks(content)
        if outcome_in(said) is not None:
            words = "outcome: agents on the Messages API take a content only"
            raise ProviderFailure("unsupported_by_runtime", words, final=True)
        with _passing():
            front = await self._front(state)
        progress = state.progress
        nudge = f":{progress.stalls}" if progress is not None and progress.nudged else ""
        source = f"{state.open_turn}:{state.failures + 1}{nudge}"
        held = self._held(state)
        if not look and held.has(source):
            # Another message than the turn's own: a steering one, which goes out as the next turn.
            words = "a conversation on the Messages API takes one message a turn"
            raise ProviderFailure("unsupported_by_runtime", words)
        await held.say([*front, *said], source)

    async def interrupt(self, state: SessionState) -> None:
        """See Provider.interrupt."""
        await self._held(state).interrupt()

    async def answer(self, state: SessionState, request: ToolConfirmed | ToolAnswered) -> None:
        """See Provider.answer."""
        if isinstance(request, ToolConfirmed):
            words = f"{request.tool_use_id} waits for a result, not for a confirmation"
            raise ProviderFailure("invalid_request_error", words, final=True)
        call = request.custom_tool_use_id
        await self._held(state).answer(
            call, blocks(request.content), is_error=request.is_error, source=f"result:{call}"
        )

    async def set_budget(self, provider_session_id: str, cents: int) -> None:
        """See Provider.set_budget. There are none."""
        words = f"budget_usd: sessions on the Messages API have none; {UNSUPPORTED['budget_usd']}"
        raise ProviderFailure("unsupported_by_runtime", words, final=True)

    async def close(self, provider_session_id: str, *, erase: bool) -> None:
        """See Provider.close. What is archived stays, for the conversation that goes on from it."""
        if erase:
            with _passing():
                await self._store.forget(provider_session_id)

    @asynccontextmanager
    async def watch(
        self, state: SessionState, *, fresh: bool, on_preview: Callable[[bytes], None]
    ) -> AsyncIterator[ProviderFeed]:
        """See Provider.watch."""
        held = Conversation(
            self._client,
            self._store,
            self._windows,
            state,
            now=lambda: rfc3339(self._clock()),
            on_preview=on_preview,
        )
        self._watched[held.id] = held
        try:
            yield held
        finally:
            if self._watched.get(held.id) is held:
                del self._watched[held.id]
            await held.close()

    def _held(self, state: SessionState) -> Conversation:
        held = self._watched.get(state.provider_session_id or "")
        if held is None:
            raise ProviderFailure("not_watched", "nobody watches this conversation here")
        return held

    async def _front(self, state: SessionState) -> list[dict[str, Any]]:
        """What a conversation is told before its first message: of the user, and what was said in the one
        before."""
        if state.prompts and not state.rotated_from:
            return []
        known = await self._profiles.of(state.tenant_id, state.user_id)
        front = [about_user(known)] if known else []
        if state.rotated_from:
            past = await self._store.read(state.rotated_from, after=0)
            said = [e.event for e in past if provider.head(e.event).type in SPEAKERS]
            front.append(told(said[::-1]) if said else {"type": "text", "text": LOST})
        return front


class RuntimeProvider:
    """The Provider port: Managed Agents, or the Messages API for the sessions of its agents."""

    def __init__(self, managed: Provider, messages: MessagesProvider) -> None:
        self._managed = managed
        self._messages = messages

    def _of(self, state: SessionState) -> Provider:
        return self._messages if self._messages.has(state) else self._managed

    def _by_id(self, id: str) -> Provider:
        return self._messages if id.startswith(provider.CONVERSATION) else self._managed

    async def open(self, state: SessionState, *, look: bool) -> ProviderSession:
        """See Provider.open."""
        return await self._of(state).open(state, look=look)

    async def send(self, state: SessionState, content: Any, *, look: bool) -> None:
        """See Provider.send."""
        await self._of(state).send(state, content, look=look)

    async def interrupt(self, state: SessionState) -> None:
        """See Provider.interrupt."""
        await self._of(state).interrupt(state)

    async def answer(self, state: SessionState, request: Any) -> None:
        """See Provider.answer."""
        await self._of(state).answer(state, request)

    async def set_budget(self, provider_session_id: str, cents: int) -> None:
        """See Provider.set_budget."""
        await self._by_id(provider_session_id).set_budget(provider_session_id, cents)

    async def close(self, provider_session_id: str, *, erase: bool) -> None:
        """See Provider.close."""
        await self._by_id(provider_session_id).close(provider_session_id, erase=erase)

    def watch(
        self, state: SessionState, *, fresh: bool, on_preview: Callable[[bytes], None]
    ) -> AbstractAsyncContextManager[ProviderFeed]:
        """See Provider.watch."""
        return self._of(state).watch(state, fresh=fresh, on_preview=on_preview)


def conversation_of(state: SessionState) -> str:
    """The id of the session's next conversation: another one after each that it gave up."""
    before = state.given_up[-1] if state.given_up else ""
    said = "/".join((state.tenant_id, state.session_id, before))
    return provider.CONVERSATION + hashlib.blake2b(said.encode(), digest_size=12).hexdigest()


@contextmanager
def _passing() -> Iterator[None]:
    """A database that is away is a failure that passes."""
    try:
        yield
    except Transient as error:
        raise ProviderFailure(error.reason, str(error)) from error
