"""Creates a session: everything is checked first, then it exists at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec
from msgspec import UNSET

from infra.simulator.api.environments import environment
from infra.simulator.api.files import check_files
from infra.simulator.api.mounts import mounted
from infra.simulator.api.resources import AgentRef, AgentWithOverrides, CreateSession
from infra.simulator.api.shape import model_json, tools_json
from infra.simulator.api.vaults import vault
from infra.simulator.connections import Credential, Refusal, refusal
from infra.simulator.content import UserDefineOutcome
from infra.simulator.errors import bad, missing
from infra.simulator.play import inbox
from infra.simulator.play.session import Birth, Session
from infra.simulator.play.usage import rates_of
from infra.simulator.real_servers import try_credential
from infra.simulator.world import JSON, World

HIDDEN = ("metadata", "created_at", "updated_at", "archived_at")


def born(world: World, asked: CreateSession) -> Session:
    """A new session, running already where it has initial events.

    Raises ApiError 400 or 404 and creates nothing.
    """
    agent = _agent(world, asked.agent)
    place = environment(world, asked.environment_id)
    if place["archived_at"] is not None:
        raise bad(
            f"environment_id: environment {asked.environment_id!r} is archived",
            "environment_archived",
        )
    for ident in asked.vault_ids:
        if vault(world, ident)["archived_at"] is not None:
            raise bad(f"vault_ids: vault {ident!r} is archived")
    check_files(world, map(msgspec.to_builtins, (*asked.resources, *asked.initial_events)))
    outcomes = [event for event in asked.initial_events if isinstance(event, UserDefineOutcome)]
    if len(outcomes) > 1:
        raise bad("initial_events: at most one user.define_outcome")
    session = _session(world, asked, agent, place)
    inbox.admit(session, asked.initial_events, world.casting)
    world.created += 1
    world.sessions[session.id] = session
    if asked.initial_events:
        inbox.file(session, asked.initial_events)
        session.start_running()
        world.driver.wake(session)
    return session


def _session(world: World, asked: CreateSession, agent: JSON, place: JSON) -> Session:
    cents = None
    if asked.budget is not UNSET:
        if rates_of(agent["model"]["id"]) is None:
            raise bad("budget: the agent's model has no list price", "model_not_budgetable")
        cents = int(asked.budget.max_list_cost.amount)
    birth = Birth(
        id=world.ids.new("sesn"),
        number=world.created,
        seed=world.settings.seed,
        agent=agent,
        environment=place,
        metadata=dict(asked.metadata),
        title=asked.title,
        budget_cents=cents,
        resources=mounted(world, asked.resources),
        vault_ids=list(asked.vault_ids),
        refusal=partial(_refusal, world, list(asked.vault_ids)),
        now=world.now,
        status_lag=int(world.settings.status_lag_seconds * 1e6),
        delays=world.delays,
    )
    return Session(birth)


async def _refusal(world: World, vault_ids: list[str], server: JSON) -> Refusal | None:
    for one in _credentials(world, vault_ids):
        if one.body["auth"].get("mcp_server_url") == server["url"]:
            await try_credential(one, world.now())
    return refusal(server, _credentials(world, vault_ids))


def _credentials(world: World, vault_ids: list[str]) -> Iterator[Credential]:
    """Those of the vaults as they are now; a vault may be gone."""
    for ident in vault_ids:
        yield from world.credentials.get(ident, {}).values()


def _agent(world: World, asked: str | AgentRef | AgentWithOverrides) -> JSON:
    """The agent's configuration as it is now: later versions do not reach the session."""
    ref = AgentRef(id=asked) if isinstance(asked, str) else asked
    agent = world.agents.get(ref.id)
    if agent is None:
        raise missing("agent", ref.id)
    if agent.archived_at is not None:
        raise bad(f"agent: agent {ref.id!r} is archived")
    body = {key: value for key, value in agent.at(ref.version).items() if key not in HIDDEN}
    body["multiagent"] = _roster(world, body["multiagent"])
    return _overridden(body, ref) if isinstance(ref, AgentWithOverrides) else body


def _overridden(body: JSON, ref: AgentWithOverrides) -> JSON:
    if ref.model is not UNSET:
        body["model"] = model_json(ref.model)
    if ref.system is not UNSET:
        body["system"] = ref.system
    if ref.skills is not UNSET:
        body["skills"] = msgspec.to_builtins(ref.skills)
    if ref.mcp_servers is not UNSET:
        body["mcp_servers"] = msgspec.to_builtins(ref.mcp_servers)
    if ref.tools is not UNSET:
        body["tools"] = tools_json(ref.tools, body["mcp_servers"])
    return body


def _roster(world: World, roster: JSON | None) -> JSON | None:
    """References become the configurations themselves."""
    if roster is None:
        return None
    hidden = (*HIDDEN, "multiagent")
    bodies = [world.agents[ref["id"]].at(ref["version"]) for ref in roster["agents"]]
    agents = [{k: v for k, v in body.items() if k not in hidden} for body in bodies]
    return {**roster, "agents": agents}
