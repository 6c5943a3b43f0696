"""Makes provider sessions, adopting what a crash left behind, and closes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anthropic
from anthropic import AsyncAnthropic, omit
from msgspec import to_builtins

from services.agent_worker.ports import ProviderFailure, ProviderSession
from services.agent_worker.provider.failures import (
    WIRE_ERRORS,
    explained,
    failure,
    may_have_landed,
)
from services.agent_worker.provider.orphans import Orphans
from services.agent_worker.provider.parts import Gone, Part, Parts
from shared import telemetry
from shared.errors import Transient
from shared.orphans import MARK, mark
from shared.session.references import pinned
from shared.session.state import SessionState

MAX_METADATA = 16


class Openings:
    """Makes provider sessions of `parts`: agent, environment, vaults, and of the session's resources."""

    def __init__(self, client: AsyncAnthropic, parts: Parts) -> None:
        self._client = client
        self._parts = parts
        self._orphans = Orphans(client)

    async def open(self, state: SessionState, *, look: bool) -> ProviderSession:
        """See Provider.open."""
        try:
            parts = await self._parts.of(state)
            found = await self._orphans.find(state) if look else None
            telemetry.note({"turnstile.adopted": found is not None})
            return found or await self._create(state, parts)
        except WIRE_ERRORS as error:
            raise failure(error) from error
        except Transient as error:
            raise ProviderFailure(error.reason, str(error)) from error

    async def _create(self, state: SessionState, parts: Sequence[Part]) -> ProviderSession:
        """Make a session of these parts, once; where a default is gone, once more with another."""
        try:
            return await self._made(state, parts)
        except anthropic.APIStatusError as error:
            refused = failure(error)
            if not refused.final:
                raise refused from error
            await self._replace(state, parts, refused)
        try:
            return await self._made(state, await self._parts.of(state))
        except anthropic.APIStatusError as error:
            # What was found or made a moment ago is refused: that may pass.
            refused = failure(error)
            refused.final = False
            raise refused from error

    async def _replace(
        self, state: SessionState, parts: Sequence[Part], refused: ProviderFailure
    ) -> None:
        """Forget the defaults that a session was refused for. Raises its refusal where they are not what was wrong,
        and one that may pass where that can't be told."""
        defaults = self._parts.defaults(parts, state)
        gone = await self._parts.gone(parts, defaults, refused.detail)
        self._parts.forget([one for one in gone or () if one.part in defaults])
        left = [one for one in gone or () if one.part not in defaults]
        if left or not gone:
            unknown = gone is None and bool(defaults)
            raise _refusal(left, parts, refused, final=not unknown)

    async def _made(self, state: SessionState, parts: Sequence[Part]) -> ProviderSession:
        agent, environment = (part.id for part in parts[:2])
        vaults = [part.id for part in parts if part.kind == "vault"]
        raw = self._client.with_options(max_retries=0).beta.sessions
        try:
            made = await raw.create(
                agent=_agent(agent),
                environment_id=environment,
                metadata=_metadata(state),
                title=state.title or omit,
                vault_ids=vaults or omit,
                resources=to_builtins(list(state.resources)) or omit,
                budget=_budget(state) or omit,
                timeout=30.0,
            )
        except WIRE_ERRORS as error:
            if may_have_landed(error) and (found := await self._orphans.find(state)) is not None:
                telemetry.note({"turnstile.adopted": True})
                return found
            raise
        return _bound(made)


def _refusal(
    gone: Sequence[Gone], parts: Sequence[Part], refused: ProviderFailure, *, final: bool
) -> ProviderFailure:
    """The refusal of a session, in words that name what is `gone` of its parts, or all of them where none is."""
    named = ", ".join(f"{kind} {id}" for kind, id in ([one.part for one in gone] or parts))
    reason = f"{gone[0].part.kind}_{gone[0].how}" if gone else refused.reason
    return ProviderFailure(reason, f"{refused.detail} ({named})", final=final)


async def set_budget(client: AsyncAnthropic, session: str, cents: int) -> None:
    """Give a session another budget. Raises ProviderFailure. Repeating is safe: a budget that was used up meanwhile
    would be refused, and is there already."""
    try:
        await client.beta.sessions.update(session, budget=_limit(cents))
    except WIRE_ERRORS as error:
        refused = await explained(client, session, error)
        if not refused.final or not await _has_budget(client, session, cents):
            raise refused from error


async def _has_budget(client: AsyncAnthropic, session: str, cents: int) -> bool:
    try:
        found = await client.beta.sessions.retrieve(session)
    except WIRE_ERRORS as error:
        raise failure(error, session=True) from error
    return found.budget is not None and found.budget.max_list_cost.amount == str(cents)


async def close_session(client: AsyncAnthropic, session: str, *, erase: bool) -> None:
    """Archive a session, and delete it when `erase`; one that is gone counts as closed. Raises ProviderFailure."""
    try:
        await _archive(client, session)
        if erase:
            await client.beta.sessions.delete(session)
    except WIRE_ERRORS as error:
        refused = failure(error, session=True)
        if not refused.lost:
            raise refused from error


async def _archive(client: AsyncAnthropic, session: str) -> None:
    """Archive a session once. Raises what the SDK raises when it is not archived afterwards."""
    try:
        await client.beta.sessions.archive(session)
    except WIRE_ERRORS:
        found = await client.beta.sessions.retrieve(session)
        if found.archived_at is None:
            raise


def _bound(session: Any) -> ProviderSession:
    agent = session.agent
    return ProviderSession(
        id=session.id, agent=agent.id, model=agent.model.id, version=agent.version or 0
    )


def _agent(agent: str) -> Any:
    id, version = pinned(agent)
    return id if version is None else {"type": "agent", "id": id, "version": version}


def _metadata(state: SessionState) -> dict[str, str]:
    """Ours first: a sixteenth pair of the user's stays with Turnstile only."""
    theirs = list((state.metadata or {}).items())[: MAX_METADATA - 1]
    return {**dict(theirs), MARK: mark(state.tenant_id, state.session_id)}


def _budget(state: SessionState) -> Any:
    """What is left of the session's, in whole US cents, which the provider takes as a string."""
    return None if state.budget_left is None else _limit(state.budget_left)


def _limit(cents: int) -> Any:
    return {"type": "limit", "max_list_cost": {"amount": str(cents), "currency": "USD"}}
