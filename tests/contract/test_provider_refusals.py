"""What the provider refuses for good is told so at the first try, with one request; what may pass is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider import send
from services.agent_worker.provider.anthropic import AnthropicProvider
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from shared import metrics
from shared.clock import utcnow
from shared.session.inputs import ProviderEvent
from tests.contract.provider_talk import DEADLINE_S, Talk, stop_reason
from tests.contract.provider_worlds import LIST, SEND, STREAM, WireWorld
from tests.fakes.releases import MemoryReleases

pytestmark = pytest.mark.contract
CREATE = {"method": "POST", "path": "/v1/sessions$"}
MODEL = "claude-sonnet-5"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "GRACE", (0.0, 0.05, 0.1))


async def refused(world: WireWorld, **of: Any) -> tuple[ProviderFailure, int, float]:
    """How a session with these things in its state is refused, with how many creates, in how many seconds."""
    talk = Talk(world)
    talk.ask("hello")
    talk.state = replace(talk.state, **of)
    before, began = await creates(world), time.monotonic()
    with pytest.raises(ProviderFailure) as caught:
        await talk.open()
    return caught.value, await creates(world) - before, time.monotonic() - began


async def creates(world: WireWorld) -> int:
    asked = ((one["method"], one["path"]) for one in await world.requests())
    return sum(one == ("POST", "/v1/sessions") for one in asked)


@asynccontextmanager
async def placed(world: WireWorld, environment: str) -> AsyncIterator[None]:
    """Sessions are made in this environment, as the settings would say."""
    usual = world.provider
    openings = Openings(
        world.client,
        Parts(
            world.client,
            agent=None,
            environment=environment,
            model=MODEL,
            releases=MemoryReleases(),
        ),
    )
    world.provider = AnthropicProvider(
        world.client, openings, world.profiles, clock=utcnow, chance=lambda: 0.0
    )
    yield
    world.provider = usual


async def made(world: WireWorld, kind: str) -> tuple[str, Any]:
    """A new agent, environment or vault: its id, and what archives it."""
    beta: Any = world.client.beta
    if kind == "agent":
        return (await beta.agents.create(name="gone", model=MODEL)).id, beta.agents.archive
    if kind == "environment":
        name = f"gone-{time.monotonic_ns()}"
        return (await beta.environments.create(name=name)).id, beta.environments.archive
    return (await beta.vaults.create(display_name="gone")).id, beta.vaults.archive


# ---- sessions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["not_found", "archived"])
@pytest.mark.parametrize("kind", ["agent", "environment", "vault"])
async def test_a_session_of_something_that_is_not_there_is_refused_at_the_first_try(
    healed: WireWorld, kind: str, how: str
) -> None:
    id = f"{kind}_nope"
    if how == "archived":
        id, archive = await made(healed, kind)
        await archive(id)
    if kind == "environment":
        async with placed(healed, id):
            failure, count, seconds = await refused(healed)
    elif kind == "agent":
        failure, count, seconds = await refused(healed, agent=id)
    else:
        failure, count, seconds = await refused(healed, vault_ids=[id])
    assert (failure.reason, failure.final, failure.lost) == (f"{kind}_{how}", True, False)
    assert f"{kind} {id}" in failure.detail
    assert count == 1
    assert seconds < 2


async def test_of_several_vaults_the_missing_one_is_named(healed: WireWorld) -> None:
    there, _ = await made(healed, "vault")
    failure, count, _ = await refused(healed, vault_ids=[there, "vlt_nope"])
    assert (failure.reason, count) == ("vault_not_found", 1)
    assert "vlt_nope" in failure.detail
    assert there not in failure.detail


async def test_words_that_name_nothing_are_looked_into(healed: WireWorld) -> None:
    """The provider's words are its own affair: what is missing is found by asking for it."""
    away = {"kind": "respond", "status": 404, "message": "Not found"}
    await healed.rules({"match": CREATE, "fault": away})
    failure, count, _ = await refused(healed, agent="agent_nope")
    assert (failure.reason, failure.final, count) == ("agent_not_found", True, 1)


async def test_a_refusal_that_nothing_explains_names_all_that_was_asked_with(
    healed: WireWorld,
) -> None:
    vault, _ = await made(healed, "vault")
    await healed.rules({"match": CREATE, "fault": {"kind": "respond", "status": 400}})
    failure, count, _ = await refused(healed, vault_ids=[vault])
    assert (failure.reason, failure.final, count) == ("invalid_request_error", True, 1)
    assert vault in failure.detail


async def test_a_reason_that_cannot_be_looked_up_in_time_costs_no_more_than_that(
    healed: WireWorld,
) -> None:
    slow = {"kind": "delay", "seconds": 5.0}
    await Talk(healed).open()
    *_, usual = await refused(healed, agent="agent_nope")
    await healed.rules({"match": {"method": "GET", "path": "/v1/agents/"}, "fault": slow})
    async with placed(healed, (await made(healed, "environment"))[0]):
        failure, count, seconds = await refused(healed, agent="agent_nope")
    assert (failure.reason, failure.final, count) == ("not_found_error", True, 1)
    assert "agent_nope" in failure.detail
    assert seconds < 2 + usual


async def test_a_code_of_the_provider_is_the_reason(healed: WireWorld) -> None:
    priceless = await healed.client.beta.agents.create(
        name="priceless", model="claude-experimental"
    )
    failure, count, _ = await refused(healed, agent=priceless.id, budget_usd=1.0)
    assert (failure.reason, failure.final, count) == ("model_not_budgetable", True, 1)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, None),
        (402, None),
        (403, None),
        (400, "organization_on_hold"),
        (429, "enforced_spend_limit_reached"),
    ],
)
async def test_what_concerns_the_account_is_tried_again_and_told(
    healed: WireWorld, status: int, code: str | None
) -> None:
    await Talk(healed).open()
    fault = {"kind": "respond", "status": status, **({"error_code": code} if code else {})}
    await healed.rules({"match": CREATE, "fault": fault})
    told = metrics.read("turnstile_provider_account_refusals_total")
    failure, count, _ = await refused(healed)
    assert (failure.final, failure.lost, count) == (False, False, 1)
    assert metrics.read("turnstile_provider_account_refusals_total") == told + 1


# ---- messages -------------------------------------------------------------------------------------------------


async def test_a_message_with_a_file_that_is_not_there_fails_alone(healed: WireWorld) -> None:
    """404 is about what was sent: the session is there and goes on."""
    talk = Talk(healed)
    await talk.open()
    image = {"type": "image", "source": {"type": "file", "file_id": "file_nope"}}
    async with talk.watching(fresh=True):
        with pytest.raises(ProviderFailure) as caught:
            await talk.send([image])
        assert (caught.value.final, caught.value.lost) == (True, False)
        assert "file_nope" in caught.value.detail
        file = await healed.client.beta.files.upload(file=("a.png", b"png", "image/png"))
        there = {"type": "image", "source": {"type": "file", "file_id": file.id}}
        await talk.send([{"type": "text", "text": "look"}, there])
        assert stop_reason(await talk.hear()) == "end_turn"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "text/html", "data": "aGk="}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%%%"}},
        {"type": "image"},
        {"type": "text", "text": " "},
    ],
)
async def test_content_the_provider_cannot_take_fails_alone(
    healed: WireWorld, block: dict[str, Any]
) -> None:
    talk = Talk(healed)
    await talk.open()
    with pytest.raises(ProviderFailure) as caught:
        await talk.send([block])
    assert (caught.value.reason, caught.value.final) == ("invalid_request_error", True)
    async with talk.watching():
        await talk.send("hello")
        assert stop_reason(await talk.hear()) == "end_turn"


@pytest.mark.parametrize("status", [400, 404, 409])
async def test_any_refusal_of_a_session_that_is_closed_means_the_session(
    healed: WireWorld, status: int
) -> None:
    talk = Talk(healed)
    await talk.open()
    await healed.retire(talk.session)
    await healed.rules({"match": SEND, "fault": {"kind": "respond", "status": status}})
    with pytest.raises(ProviderFailure) as caught:
        await talk.send("hello")
    assert (caught.value.reason, caught.value.lost) == ("session_lost", True)


@pytest.mark.parametrize("status", [400, 404, 409])
async def test_a_stream_that_a_closed_session_refuses_means_the_session(
    healed: WireWorld, status: int
) -> None:
    talk = Talk(healed)
    await talk.open()
    await healed.retire(talk.session)
    await healed.rules({"match": STREAM, "fault": {"kind": "respond", "status": status}})
    with pytest.raises(ProviderFailure) as caught:
        async with talk.watching():
            pass
    assert caught.value.lost


async def test_a_list_of_a_thread_that_is_gone_is_not_the_session(healed: WireWorld) -> None:
    talk = Talk(healed)
    await talk.open()
    await healed.rules(
        {
            "match": {"method": "GET", "path": "/threads/"},
            "fault": {"kind": "respond", "status": 404},
        }
    )
    async with talk.watching(fresh=True):
        assert stop_reason(await talk.turn("[[script: threads children=1]]")) == "end_turn"
    assert talk.state.provider_session_id == talk.session


async def test_an_answer_the_provider_cannot_take_is_refused_for_good(healed: WireWorld) -> None:
    talk = Talk(healed)
    await talk.open()
    async with talk.watching(fresh=True):
        await talk.turn("[[script: custom_tool]]")
        call = talk.state.pending[0].tool_use_id
        with pytest.raises(ProviderFailure) as caught:
            await talk.answer(call, [{"type": "nonsense"}])
        assert (caught.value.final, caught.value.lost) == (True, False)
        await talk.answer(call, "42")
        assert stop_reason(await talk.hear()) == "end_turn"


# ---- errors that are not the wire's -----------------------------------------------------------------------------


async def test_an_error_of_our_own_is_no_ambiguous_send(
    healed: WireWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(healed)
    await talk.open()

    async def broken(*_: Any) -> None:
        raise ValueError("a slip in this code")

    monkeypatch.setattr(send, "post", broken)
    before = len(await healed.requests())
    with pytest.raises(ValueError, match="a slip"):
        await talk.send("hello")
    assert len(await healed.requests()) == before, "it was looked for at the provider"


async def test_an_error_of_our_own_ends_the_feed_loudly(
    healed: WireWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that died unheard would leave its turn waiting for ever."""
    talk = Talk(healed)
    await talk.open()
    monkeypatch.setattr("services.agent_worker.provider.feed.provider.head", _slip)
    async with talk.watching(fresh=True) as feed:
        await talk.send("hello")
        with pytest.raises(KeyError, match="a slip"):
            async with asyncio.timeout(DEADLINE_S):
                await feed.next()


def _slip(raw: bytes) -> ProviderEvent:
    raise KeyError("a slip in this code")


async def test_an_answer_that_is_no_json_may_have_landed(healed: WireWorld) -> None:
    """What was garbled on the way is the wire's: the message is looked for."""
    talk = Talk(healed)
    await talk.open()
    await healed.rules(
        {"match": {**SEND, "times": 1}, "fault": {"kind": "land_then_drop"}},
        {"match": {**LIST, "times": 1}, "fault": {"kind": "drop"}},
    )
    with pytest.raises(ProviderFailure, match="provider_unreachable"):
        await talk.send("hello")
    assert await talk.sent() == ["hello"]
    await talk.send("hello", look=True)
    assert await talk.sent() == ["hello"]
