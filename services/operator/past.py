"""A session's past: the core's fold, and beside it what the state forgets when a turn has ended. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from shared.session import provider
from shared.session.events import OWN_TYPES, Event, Turn, TurnAccepted, TurnStarted
from shared.session.evolve import evolve
from shared.session.lenient import read
from shared.session.state import SessionState, initial
from shared.session.upcast import lifted

Kind = Literal["builtin", "mcp", "custom"]
KINDS: dict[str, Kind] = {
    "agent.tool_use": "builtin",
    "agent.mcp_tool_use": "mcp",
    "agent.custom_tool_use": "custom",
}
RESULTS = frozenset({"agent.tool_result", "agent.mcp_tool_result", "user.tool_result"})


class ToolCall(Struct, frozen=True, kw_only=True):
    """One call. `input` is JSON in one form, keys sorted; `answer` the fields of what was answered from outside:
    a confirmation (`result`, `deny_message`), or a custom tool's result (`content`, `is_error`)."""

    id: str
    kind: Kind
    name: str
    input: str
    is_error: bool = False
    answer: dict[str, Any] | None = None


class ToldTurn(Struct, frozen=True, kw_only=True):
    """One accepted turn as it stood. `content` is what the user sent; `agent` and `model` whom it was sent to."""

    turn_id: str
    content: Any
    turn: Turn
    agent: str = ""
    model: str = ""
    tools: tuple[ToolCall, ...] = ()


class _Confirmation(Struct, frozen=True, omit_defaults=True):
    result: str = ""
    deny_message: str | None = None


class _Result(Struct, frozen=True, omit_defaults=True):
    content: Any = None
    is_error: bool | None = None


_confirmation = msgspec.json.Decoder(_Confirmation)
_result = msgspec.json.Decoder(_Result)


class Past:
    """Takes the events of one session from seq 1 on."""

    def __init__(self) -> None:
        self.state: SessionState | None = None
        self._turns: dict[str, ToldTurn] = {}
        self._calls: dict[str, ToolCall] = {}
        self._of: dict[str, list[str]] = defaultdict(list)

    def add(self, event: Event) -> None:
        """One more event. Raises what `evolve` raises for a log that can't be."""
        if event.type in OWN_TYPES:
            event = lifted(event)
        state = self.state or initial(event.tenant_id, event.session_id)
        self.state = evolve(state, event)
        if event.type.startswith("turn."):
            self._own(event)
        else:
            self._said(event)

    def turns(self) -> list[ToldTurn]:
        """The accepted turns in their order; the open one as the state has it."""
        return [self._whole(told) for told in self._turns.values()]

    def _whole(self, told: ToldTurn) -> ToldTurn:
        tools = tuple(self._calls[id] for id in self._of[told.turn_id])
        running = self.state.turn if self.state else None
        now = running if running and running.turn_id == told.turn_id else told.turn
        return replace(told, turn=now, tools=tools)

    def _own(self, event: Event) -> None:
        turn_id, turn = event.turn_id or "", msgspec.json.decode(event.data, type=Turn)
        if event.type == "turn.accepted":
            content = msgspec.json.decode(event.data, type=TurnAccepted).content
            self._turns[turn_id] = ToldTurn(turn_id=turn_id, content=content, turn=turn)
        elif turn_id in self._turns:  # others were refused unheard
            told = replace(self._turns[turn_id], turn=turn)
            if event.type == "turn.started":
                started = msgspec.json.decode(event.data, type=TurnStarted)
                told = replace(told, agent=started.agent, model=started.model)
            self._turns[turn_id] = told

    def _said(self, event: Event) -> None:
        if (kind := KINDS.get(event.type)) is not None:
            if event.turn_id in self._turns:
                use = provider.tool_use(event.data)
                id, name = event.event_id, use.name
                self._calls[id] = ToolCall(id=id, kind=kind, name=name, input=_sorted(use.input))
                self._of[event.turn_id].append(id)
        elif event.type in RESULTS:
            self._answered(event, is_error=provider.is_error(event.data))
        elif event.type == "user.tool_confirmation":
            verdict = msgspec.to_builtins(read(_confirmation, event.data))
            self._answered(event, answer=verdict)
        elif event.type == "user.custom_tool_result":
            result = read(_result, event.data)
            answer, failed = msgspec.to_builtins(result), bool(result.is_error)
            self._answered(event, answer=answer, is_error=failed)

    def _answered(self, event: Event, **changes: Any) -> None:
        """Note an answer beside the call that it is for."""
        call = self._calls.get(provider.answered(event.data) or "")
        if call is not None:
            self._calls[call.id] = replace(call, **changes)


def past(events: Iterable[Event]) -> Past:
    """The past that these events make."""
    told = Past()
    for event in events:
        told.add(event)
    return told


def _sorted(raw: Raw) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(raw), order="sorted").decode()
    except msgspec.DecodeError:  # half a surrogate pair: as it came
        return bytes(raw).decode()
