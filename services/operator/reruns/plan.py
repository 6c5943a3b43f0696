"""The inputs of a rerun and their ids. Pure.

Every id follows from the run's and from the recorded ones, so that a run that is begun again asks for the same
things under the same ids, and the inbox takes each in once.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from services.operator.past import Past, ToldTurn, ToolCall
from shared.bus.envelope import Envelope
from shared.moment import rfc3339
from shared.session.inputs import (
    REQUESTS,
    ArchiveRequested,
    InterruptRequested,
    Request,
    SessionRequested,
    ToolAnswered,
    ToolConfirmed,
    TurnRequested,
)
from shared.session.outcome import fields
from shared.session.resources import MemoryResource, Resource

PREFIX = "rerun:"
SOURCE = "/turnstile/operator/rerun"
MAX_SESSION_ID = 128
RUN_MARK, OF_MARK = "turnstile_rerun", "turnstile_rerun_of"
DENIED = "Not allowed in a rerun: nobody was asked for this in the recorded session."
UNKNOWN = "No result in a rerun: this was not called in the recorded session."
_KINDS = {request: kind for kind, request in REQUESTS.items()}


class Plan(Struct, frozen=True, kw_only=True):
    """One recorded session and the turns of it that are sent again, in the order they were accepted."""

    tenant: str
    session: str
    shadow: str
    user_id: str
    vault_ids: list[str] | None
    resources: list[Resource]
    turns: list[ToldTurn]

    @property
    def cost_usd(self) -> float:
        """What the recorded turns cost."""
        return sum(told.turn.cost_usd for told in self.turns)


def shadow_of(run: str, session: str) -> str:
    """The id of the session that a recorded one is run again in."""
    name = f"{PREFIX}{run}:{session}"
    if len(name) <= MAX_SESSION_ID:
        return name
    return f"{PREFIX}{run}:{hashlib.sha256(session.encode()).hexdigest()[:40]}"


def plan(run: str, past: Past) -> Plan:
    """The plan for a recorded session. Its past has a state."""
    state = past.state
    assert state is not None
    return Plan(
        tenant=state.tenant_id,
        session=state.session_id,
        shadow=shadow_of(run, state.session_id),
        user_id=state.user_id,
        vault_ids=state.vault_ids,
        resources=[_unchanged(one) for one in state.resources],
        turns=past.turns(),
    )


def _unchanged(one: Resource) -> Resource:
    """What a rerun is given in its place: it learns from memory, and leaves none behind."""
    return replace(one, access="read_only") if isinstance(one, MemoryResource) else one


def opening(
    wanted: Plan, run: str, agent: str, budget: float | None, now: datetime
) -> tuple[Envelope, bytes]:
    """Open the shadow session, marked as one."""
    request = SessionRequested(
        **_whose(wanted, now),
        user_id=wanted.user_id,
        agent=agent,
        title=f"Rerun {run}",
        metadata={RUN_MARK: run, OF_MARK: wanted.session},
        budget_usd=budget,
        vault_ids=wanted.vault_ids,
        resources=wanted.resources or UNSET,
    )
    return _record(request, "rerun:open", now)


def sending(wanted: Plan, told: ToldTurn, agent: str, now: datetime) -> tuple[Envelope, bytes]:
    """One turn again, under the id it had."""
    request = TurnRequested(
        **_whose(wanted, now),
        user_id=wanted.user_id,
        turn_id=told.turn_id,
        **fields(told.content),
        agent=agent,
    )
    return _record(request, f"rerun:turn:{told.turn_id}", now)


def answering(
    wanted: Plan, told: ToldTurn, action: dict[str, Any], now: datetime
) -> tuple[Envelope, bytes]:
    """What people answered to the same call in the recorded turn; a call they never saw is denied. The budget of a
    rerun is not raised: a turn that reaches it is interrupted."""
    use, custom = str(action["tool_use_id"]), action["kind"] == "custom_tool"
    before = _recorded(told, str(action["name"]), action.get("input"), custom)
    given = (before.answer or {}) if before else {}
    request: Request
    if action["kind"] == "budget":
        request = InterruptRequested(**_whose(wanted, now))
    elif custom:
        request = ToolAnswered(
            **_whose(wanted, now),
            custom_tool_use_id=use,
            content=given.get("content") or UNKNOWN,
            is_error=bool(given.get("is_error")) or not given.get("content"),
        )
    else:
        allowed = given.get("result") == "allow"
        request = ToolConfirmed(
            **_whose(wanted, now),
            tool_use_id=use,
            result="allow" if allowed else "deny",
            deny_message=None if allowed else str(given.get("deny_message") or DENIED),
        )
    return _record(request, f"rerun:answer:{use}", now)


def closing(wanted: Plan, now: datetime) -> tuple[Envelope, bytes]:
    """No more turns: the provider's session is closed, what came late is fetched."""
    return _record(ArchiveRequested(**_whose(wanted, now)), "rerun:archive", now)


def _recorded(told: ToldTurn, name: str, given: Any, custom: bool) -> ToolCall | None:
    form = msgspec.json.encode(given, order="sorted").decode()
    for call in told.tools:
        same = call.name == name and call.input == form and (call.kind == "custom") == custom
        if same and call.answer is not None:
            return call
    return None


def _whose(wanted: Plan, now: datetime) -> dict[str, Any]:
    return {"tenant_id": wanted.tenant, "session_id": wanted.shadow, "at": rfc3339(now)}


def _record(request: Request, id: str, now: datetime) -> tuple[Envelope, bytes]:
    envelope = Envelope(id, SOURCE, _KINDS[type(request)], rfc3339(now), request.session_id)
    return envelope, msgspec.json.encode(request)
