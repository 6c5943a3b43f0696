"""The default agent and environment, remembered: when one is gone at the provider, another is made, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from services.agent_worker.ports import ProviderFailure, ProviderSession
from services.agent_worker.provider import parts as provider_parts
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from shared import metrics
from shared.ownership import Binding
from shared.session.state import SessionState
from tests.contract.provider_talk import Talk
from tests.contract.provider_worlds import WireWorld, wire_world
from tests.fakes.releases import MemoryReleases

pytestmark = pytest.mark.contract
MANY = 60


@pytest.fixture
async def world() -> AsyncIterator[WireWorld]:
    """A provider of its own, in which a first session was made."""
    async with wire_world() as world:
        await Talk(world).open()
        yield world


async def asked(world: WireWorld) -> Counter[str]:
    """How often each call was made, ids left out."""
    words = ("agents", "environments", "sessions")
    found: Counter[str] = Counter()
    for one in await world.requests():
        parts = one["path"].split("/")[2:]
        if parts[0] in words:
            found[f"{one['method']} {parts[0]}{'/*' if len(parts) > 1 else ''}"] += 1
    return found


async def lose(world: WireWorld, kind: str, how: str) -> str:
    """Archive or delete the default behind the worker's back."""
    things: Any = getattr(world.client.beta, f"{kind}s")
    (id,) = [thing.id async for thing in things.list()]
    await (things.archive(id) if how == "archive" else things.delete(id))
    return str(id)


def replaced(kind: str) -> float:
    return metrics.read("turnstile_provider_defaults_replaced_total", {"kind": kind})


LOSSES = [("agent", "archive"), ("environment", "archive"), ("environment", "delete")]


@pytest.mark.parametrize(("kind", "how"), LOSSES)
async def test_a_default_that_is_gone_is_made_again(world: WireWorld, kind: str, how: str) -> None:
    lost, count = await lose(world, kind, how), replaced(kind)
    with capture_logs() as lines:
        await Talk(world).open()
    assert replaced(kind) == count + 1
    told = {line["event"]: line for line in lines if line["event"].startswith("default_")}
    assert (told["default_gone"]["kind"], told["default_gone"]["id"]) == (kind, lost)
    assert told["default_found"]["id"] not in ("", lost)
    await Talk(world).open()
    assert replaced(kind) == count + 1, "it is remembered again"


async def test_an_agent_and_an_environment_that_are_both_gone_are_made_again(
    world: WireWorld,
) -> None:
    await lose(world, "agent", "archive")
    await lose(world, "environment", "archive")
    await Talk(world).open()
    await Talk(world).open()


@pytest.mark.parametrize(("kind", "how"), LOSSES)
async def test_many_sessions_share_one_look(
    world: WireWorld, kind: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many at once take longer on a busy machine than one session may: it would be refused, to be opened again.
    monkeypatch.setattr(provider_parts, "LOOK_SECONDS", 30.0)
    await lose(world, kind, how)
    before = await asked(world)
    await asyncio.gather(*(Talk(world).open() for _ in range(MANY)))
    made = await asked(world) - before
    assert made["POST sessions"] <= 2 * MANY
    # An archived environment keeps its name: one try in vain, one look more.
    archived = kind == "environment" and how == "archive"
    assert made[f"GET {kind}s"] == (2 if archived else 1)
    assert made[f"POST {kind}s"] == (2 if archived else 1)
    assert made[f"GET {kind}s/*"] <= 4, "who asks at the same time asks together"
    others = {"agent": "environment", "environment": "agent"}[kind]
    assert made[f"POST {others}s"] == 0


async def test_many_first_sessions_share_one_look() -> None:
    async with wire_world() as world:
        await asyncio.gather(*(Talk(world).open() for _ in range(MANY)))
        made = await asked(world)
    assert (made["GET agents"], made["POST agents"]) == (1, 1)
    assert (made["GET environments"], made["POST environments"]) == (1, 1)


async def test_a_look_that_fails_fails_those_who_shared_it_and_no_later_one() -> None:
    async with wire_world() as world:
        away = {"kind": "respond", "status": 503}
        await world.rules({"match": {"method": "GET", "path": "/v1/environments$"}, "fault": away})
        tries = [Talk(world).open() for _ in range(MANY)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert all(isinstance(one, ProviderFailure) and not one.final for one in results)
        assert (await asked(world))["GET environments"] == 1
        await world.heal()
        await Talk(world).open()


async def test_a_shared_look_goes_on_when_the_first_session_is_cancelled() -> None:
    """A session that is let go of takes nobody's look along."""
    async with wire_world() as world:
        slow = {"kind": "delay", "seconds": 0.3}
        await world.rules({"match": {"method": "GET", "path": "/v1/agents$"}, "fault": slow})
        first = asyncio.create_task(Talk(world).open())
        others = [asyncio.create_task(Talk(world).open()) for _ in range(3)]
        await asyncio.sleep(0.1)
        first.cancel()
        assert len(await asyncio.gather(*others)) == 3
        assert (await asked(world))["GET agents"] == 1


async def test_workers_that_start_together_use_one_environment() -> None:
    """The name is unique: who comes second is told so, and looks again."""
    async with wire_world() as world:
        openings = [
            Openings(
                world.client,
                Parts(
                    world.client,
                    agent=None,
                    environment=None,
                    model="claude-sonnet-5",
                    releases=MemoryReleases(),
                ),
            )
            for _ in range(4)
        ]

        async def open(one: Openings) -> ProviderSession:
            talk = Talk(world)
            talk.ask("hello")
            return await one.open(talk.state, look=False)

        await asyncio.gather(*map(open, openings))
        (only,) = [one async for one in world.client.beta.environments.list()]
        body: dict[str, Any] = only.to_dict()
        network = body["config"]["networking"]
        assert (only.name, network["type"], network["allowed_hosts"]) == (
            "turnstile",
            "limited",
            [],
        )


async def test_an_agent_that_settings_name_is_not_replaced(world: WireWorld) -> None:
    """Somebody chose it: its turns fail and say why, on no other agent."""
    mine = await world.client.beta.agents.create(name="mine", model="claude-sonnet-5")
    openings = Openings(
        world.client,
        Parts(
            world.client,
            agent=mine.id,
            environment=None,
            model="claude-sonnet-5",
            releases=MemoryReleases(),
        ),
    )
    await openings.open(_asking(world), look=False)
    await world.client.beta.agents.archive(mine.id)
    with pytest.raises(ProviderFailure) as caught:
        await openings.open(_asking(world), look=False)
    assert (caught.value.reason, caught.value.final) == ("agent_archived", True)
    assert mine.id in caught.value.detail


async def test_a_default_that_cannot_be_looked_for_at_the_moment_is_tried_again(
    world: WireWorld,
) -> None:
    """The default may be what was refused: not to know is no reason to fail a turn."""
    await lose(world, "agent", "archive")
    away = {"kind": "respond", "status": 503}
    await world.rules({"match": {"method": "GET", "path": "/v1/agents/"}, "fault": away})
    with pytest.raises(ProviderFailure) as caught:
        await Talk(world).open()
    assert not caught.value.final
    await world.heal()
    await Talk(world).open()


class FoundVaults:
    """The DefaultVaults port: these, whoever asks; `asked` is who did."""

    def __init__(self, ids: list[str]) -> None:
        self.bindings = [
            Binding(kind="vault", id=id, tenant_id="acme", label="made", created_at=f"{number}")
            for number, id in enumerate(ids)
        ]
        self.asked: list[tuple[str, str, str]] = []

    async def of(self, *whose: str) -> list[Binding]:
        """See DefaultVaults.of."""
        tenant_id, project, user_id = whose
        self.asked.append((tenant_id, project, user_id))
        return self.bindings


def _opens_with(world: WireWorld, vaults: FoundVaults) -> Openings:
    return Openings(
        world.client,
        Parts(
            world.client,
            agent=None,
            environment=None,
            model="claude-sonnet-5",
            releases=MemoryReleases(),
            vaults=vaults,
            policy=("tenant",),
        ),
    )


async def _vaults_of(world: WireWorld, openings: Openings, state: SessionState) -> list[str]:
    made = await openings.open(state, look=False)
    return (await world.client.beta.sessions.retrieve(made.id)).vault_ids


async def test_a_session_that_names_no_vaults_has_those_made_for_it(world: WireWorld) -> None:
    made = [(await world.client.beta.vaults.create(display_name=name)).id for name in ("a", "b")]
    vaults = FoundVaults(made)
    openings = _opens_with(world, vaults)
    state = replace(_asking(world), metadata={"project": "web"})
    assert await _vaults_of(world, openings, state) == made
    assert vaults.asked == [(state.tenant_id, "web", state.user_id)]
    assert await _vaults_of(world, openings, replace(state, vault_ids=[made[1]])) == [made[1]]
    assert await _vaults_of(world, openings, replace(state, vault_ids=[])) == []
    assert len(vaults.asked) == 1


async def test_a_vault_that_is_gone_stands_in_nobodys_way_who_did_not_name_it(
    world: WireWorld,
) -> None:
    api = world.client.beta.vaults
    made = [(await api.create(display_name=name)).id for name in ("a", "b", "c")]
    vaults = FoundVaults(made)
    openings = _opens_with(world, vaults)
    await api.delete(made[0])
    await api.archive(made[2])
    state = _asking(world)
    assert await _vaults_of(world, openings, state) == [made[1]]
    with pytest.raises(ProviderFailure) as caught:
        await openings.open(replace(state, vault_ids=[made[0]]), look=False)
    assert (caught.value.reason, caught.value.final) == ("vault_not_found", True)


def _asking(world: WireWorld) -> SessionState:
    talk = Talk(world)
    talk.ask("hello")
    return talk.state
