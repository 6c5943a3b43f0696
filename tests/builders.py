"""Inputs and provider events as tests want them: short to write, complete to read.

Times are seconds after one fixed moment, ids are counted, so that the same calls give the same bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared.moment import rfc3339
from shared.session.inputs import (
    ArchiveRequested,
    Bound,
    BudgetRaised,
    BudgetSet,
    DeadlineElapsed,
    EraseRequested,
    Failed,
    Filed,
    InterruptRequested,
    ProviderEvent,
    Request,
    Seen,
    SessionRequested,
    Silent,
    ToolAnswered,
    ToolConfirmed,
    TurnRequested,
)

BEGINNING = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
TENANT, SESSION, USER = "acme", "s1", "u1"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def at(second: float = 0.0) -> str:
    """The moment `second` seconds after the beginning of every test, as events carry it."""
    return rfc3339(BEGINNING + timedelta(seconds=second))


def whose(second: float = 0.0) -> dict[str, Any]:
    """What every request says."""
    return {"tenant_id": TENANT, "session_id": SESSION, "at": at(second)}


def filed(request: Request, input_id: str, traceparent: str = "") -> Filed:
    return Filed(input_id=input_id, request=request, traceparent=traceparent)


def opening(second: float = 0.0, **more: Any) -> Filed:
    return filed(SessionRequested(user_id=USER, **whose(second), **more), "ce:open")


def turn(
    turn_id: str = "t1",
    content: Any = "hello",
    second: float = 0.0,
    traceparent: str = "",
    **more: Any,
) -> Filed:
    request = TurnRequested(user_id=USER, turn_id=turn_id, content=content, **whose(second), **more)
    return filed(request, f"turn:{turn_id}", traceparent)


def interrupting(second: float = 0.0) -> Filed:
    return filed(InterruptRequested(**whose(second)), f"ce:interrupt:{second}")


def confirming(tool_use_id: str, second: float = 0.0, result: Any = "allow") -> Filed:
    request = ToolConfirmed(tool_use_id=tool_use_id, result=result, **whose(second))
    return filed(request, f"ce:confirm:{tool_use_id}:{second}")


def answering(tool_use_id: str, second: float = 0.0, content: Any = "42") -> Filed:
    request = ToolAnswered(custom_tool_use_id=tool_use_id, content=content, **whose(second))
    return filed(request, f"ce:answer:{tool_use_id}:{second}")


def raising(budget_usd: float, second: float = 0.0) -> Filed:
    request = BudgetRaised(budget_usd=budget_usd, **whose(second))
    return filed(request, f"ce:budget:{budget_usd}:{second}")


def budget_set(budget_usd: float, pause: str = "", second: float = 0.0) -> BudgetSet:
    return BudgetSet(
        input_id=f"ce:budget:{budget_usd}:{second}",
        budget_usd=budget_usd,
        pause=pause,
        at=at(second),
    )


def archiving(second: float = 0.0) -> Filed:
    return filed(ArchiveRequested(**whose(second)), f"ce:archive:{second}")


def erasing(second: float = 0.0) -> Filed:
    return filed(EraseRequested(**whose(second)), f"ce:erase:{second}")


def bound(provider_session_id: str = "sesn_1", second: float = 0.0) -> Bound:
    return Bound(
        provider_session_id=provider_session_id, agent="agent_1", model="model-1", at=at(second)
    )


def failed(
    turn_id: str = "t1", reason: str = "overloaded_error", second: float = 0.0, **more: Any
) -> Failed:
    return Failed(turn_id=turn_id, reason=reason, detail="in words", at=at(second), **more)


def elapsed(second: float) -> DeadlineElapsed:
    return DeadlineElapsed(at=at(second))


def silent(second: float, since: float = 0.0, chance: float = 0.0) -> Silent:
    return Silent(since=at(since), at=at(second), chance=chance)


def seen(*events: ProviderEvent, chance: float = 0.0) -> Seen:
    return Seen(events=events, at=events[-1].at if events else at(), chance=chance)


class Wire:
    """A provider session's events, one second apart, ids counted from 1 behind `prefix`."""

    def __init__(self, prefix: str = "sevt", second: float = 1.0) -> None:
        self._prefix = prefix
        self._second = second
        self._count = 0

    def event(
        self, kind: str, *, thread: str | None = None, processed: bool = True, **body: Any
    ) -> ProviderEvent:
        """An event of any type; `body` is what it carries beside id, type and time."""
        self._count += 1
        self._second += 1
        id, moment = f"{self._prefix}_{self._count}", at(self._second)
        head = {"id": id, "type": kind} | ({"processed_at": moment} if processed else {})
        raw = msgspec.json.encode({**head, **body})
        return ProviderEvent(id=id, type=kind, at=moment, raw=raw, thread_id=thread)

    def prompt(self, text: str = "hello", **more: Any) -> ProviderEvent:
        return self.event("user.message", content=_text(text), **more)

    def running(self) -> ProviderEvent:
        return self.event("session.status_running")

    def message(self, *texts: str, thread: str | None = None) -> ProviderEvent:
        content = [block for text in texts for block in _text(text)]
        return self.event("agent.message", thread=thread, content=content)

    def tool_use(
        self, permission: str | None = "allow", *, kind: str = "agent.tool_use", **more: Any
    ) -> ProviderEvent:
        return self.event(
            kind, name="bash", input={"command": "ls"}, evaluated_permission=permission, **more
        )

    def custom_tool_use(self) -> ProviderEvent:
        return self.event("agent.custom_tool_use", name="weather", input={"city": "Oslo"})

    def confirmed(self, tool_use_id: str) -> ProviderEvent:
        return self.event("user.tool_confirmation", tool_use_id=tool_use_id, result="allow")

    def answered(self, tool_use_id: str) -> ProviderEvent:
        return self.event("user.custom_tool_result", custom_tool_use_id=tool_use_id)

    def interrupted(self) -> ProviderEvent:
        return self.event("user.interrupt")

    def spent(self, input_tokens: int, output_tokens: int, **more: Any) -> ProviderEvent:
        counts = {"input_tokens": input_tokens, "output_tokens": output_tokens, **more}
        return self.event("span.model_request_end", model_usage=counts)

    def cost(self, cents: int) -> ProviderEvent:
        cost = {"amount": str(cents), "currency": "USD"}
        return self.event("session.usage", usage={"list_cost": cost})

    def idle(self, reason: str = "end_turn", *event_ids: str) -> ProviderEvent:
        stop = {"type": reason} | ({"event_ids": event_ids} if event_ids else {})
        return self.event("session.status_idle", stop_reason=stop)

    def error(self, retry_status: str, kind: str = "model_error") -> ProviderEvent:
        body = {"type": kind, "message": "so it goes", "retry_status": {"type": retry_status}}
        return self.event("session.error", error=body)

    def unconnected(
        self,
        server: str = "github",
        retry_status: str = "exhausted",
        kind: str = "mcp_authentication_failed_error",
    ) -> ProviderEvent:
        """The agent can't use an MCP server."""
        said = {"message": f"{server} said 401", "retry_status": {"type": retry_status}}
        return self.event("session.error", error={"type": kind, "mcp_server_name": server, **said})

    def terminated(self) -> ProviderEvent:
        return self.event("session.status_terminated")

    def reply(self, text: str = "hello", answer: str = "well") -> tuple[ProviderEvent, ...]:
        """A whole turn without tools."""
        began = self.prompt(text), self.running(), self.event("span.model_request_start")
        said = self.message(answer), self.spent(10, 5), self.cost(3)
        return (*began, *said, self.idle())


def _text(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]
