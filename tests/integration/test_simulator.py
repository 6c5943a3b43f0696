"""The real SDK against the running simulator: every endpoint, and the wire itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic import BadRequestError, ConflictError, NotFoundError
from anthropic.types import ModelInfo

from infra.simulator import reply_to, text_of
from tests.integration.simulator_client import BETA, Provider, message, provided, read

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with provided() as it:
        yield it


async def test_a_turn_is_streamed_listed_and_logged_alike(provider: Provider) -> None:
    session = await provider.session(metadata={"tenant": "t"}, title="first")
    seen = await provider.say(session, "[[script: tools]] hello")
    assert seen[-1].stop_reason.type == "end_turn"
    listed = [event async for event in provider.events.list(session, limit=3)]
    assert {e.id for e in seen} == {e.id for e in listed}
    says = [e for e in listed if e.type == "agent.message"][-1]
    assert text_of([block.to_dict() for block in says.content]) == reply_to(
        "[[script: tools]] hello"
    )
    newest = await provider.events.list(
        session, order="desc", types=["session.status_idle"], limit=1
    )
    assert newest.data[0].id == seen[-1].id
    log = await provider.log(session)
    assert [event["id"] for event in log["events"]] == [event.id for event in listed]
    assert log["user_messages"][0]["content"] == message("[[script: tools]] hello")["content"]
    assert (await provider.beta.sessions.retrieve(session)).usage.output_tokens


async def test_a_cursor_belongs_to_its_list_and_times_filter_it(provider: Provider) -> None:
    session = await provider.session()
    await provider.say(session, "[[script: reply]]")
    first = await provider.events.list(session, limit=2)
    with pytest.raises(BadRequestError, match="another list"):
        await provider.events.list(session, limit=2, order="desc", page=first.next_page or "")
    at = first.data[1].processed_at
    assert at is not None
    later = [e.id async for e in provider.events.list(session, created_at_gt=at)]
    assert first.data[1].id not in later
    assert later


async def test_previews_begin_the_message_they_name(provider: Provider) -> None:
    session = await provider.session()
    async with await provider.events.stream(session, event_deltas=["agent.message"]) as stream:
        await provider.events.send(session, events=[message("[[script: reply]] hi")])
        seen = await read(stream)
    start = next(event for event in seen if event.type == "event_start")
    final = next(event for event in seen if event.type == "agent.message")
    deltas = "".join(e.delta.content.text for e in seen if e.type == "event_delta")
    assert start.event.id == final.id
    assert "".join(block.text for block in final.content).startswith(deltas)
    assert deltas


async def test_child_threads_are_listed_streamed_and_archived(provider: Provider) -> None:
    session = await provider.session()
    await provider.say(session, "[[script: threads children=2]]")
    threads = [t async for t in provider.beta.sessions.threads.list(session)]
    assert [t.parent_thread_id is None for t in threads] == [True, False, False]
    child = threads[1].id
    got = await provider.beta.sessions.threads.retrieve(child, session_id=session)
    assert got.status == "idle"
    events = provider.beta.sessions.threads.events
    assert [e.type async for e in events.list(child, session_id=session)][-2:] == [
        "agent.thread_message_sent",
        "session.thread_status_idle",
    ]
    async with await events.stream(child, session_id=session) as stream:
        await provider.beta.sessions.threads.archive(child, session_id=session)
        async with asyncio.timeout(10):
            assert (await anext(aiter(stream))).type == "session.thread_status_terminated"


async def test_initial_events_run_at_once(provider: Provider) -> None:
    made = await provider.beta.sessions.create(
        agent={"type": "agent", "id": provider.agent, "version": 1},
        environment_id=provider.environment,
        initial_events=[message("[[script: reply]] go")],
    )
    assert made.status == "running"
    async with asyncio.timeout(10):
        while (await provider.beta.sessions.retrieve(made.id)).status != "idle":
            pass
    types = [event.type async for event in provider.events.list(made.id)]
    assert types.count("user.message") == 1


async def test_agents_have_versions_and_refuse_late_changes(provider: Provider) -> None:
    agents = provider.beta.agents
    made = await agents.create(
        model={"id": "claude-opus-5", "effort": "low"},
        name="one",
        metadata={"a": "1", "b": "2"},
        tools=[{"type": "agent_toolset_20260401"}],
    )
    assert made.version == 1
    changed = await agents.update(made.id, version=1, system="be kind", metadata={"a": None})
    assert (changed.version, changed.metadata) == (2, {"b": "2"})
    with pytest.raises(ConflictError):
        await agents.update(made.id, version=1, name="late")
    assert (await agents.retrieve(made.id, version=1)).system is None
    assert [v.version async for v in agents.versions.list(made.id)] == [2, 1]
    assert made.id in [a.id async for a in agents.list(limit=1)]
    await agents.archive(made.id)
    with pytest.raises(BadRequestError, match="archived"):
        await provider.beta.sessions.create(agent=made.id, environment_id=provider.environment)


async def test_environments_and_vaults_can_be_made_archived_and_deleted(provider: Provider) -> None:
    environments = provider.beta.environments
    with pytest.raises(ConflictError, match="place"):
        await environments.create(name="place")
    made = await environments.create(name="other", config={"type": "self_hosted"})
    assert (await environments.retrieve(made.id)).config.type == "self_hosted"
    assert (await environments.archive(made.id)).archived_at
    assert made.id not in [e.id async for e in environments.list()]
    with pytest.raises(BadRequestError) as refusal:
        await provider.beta.sessions.create(agent=provider.agent, environment_id=made.id)
    assert refusal.value.error_code == "environment_archived"
    await environments.delete(made.id)
    with pytest.raises(NotFoundError):
        await environments.retrieve(made.id)
    vault = await provider.beta.vaults.create(display_name="v")
    assert (await provider.beta.vaults.retrieve(vault.id)).display_name == "v"
    assert vault.id in [v.id async for v in provider.beta.vaults.list()]


async def test_a_session_is_updated_archived_and_deleted(provider: Provider) -> None:
    sessions = provider.beta.sessions
    session = await provider.session(metadata={"k": "v", "gone": "x"})
    patch: Any = {"gone": None, "new": "y"}
    assert (await sessions.update(session, title="t", metadata=patch)).metadata == {
        "k": "v",
        "new": "y",
    }
    await provider.events.send(session, events=[message("[[script: reply hold=1]]")])
    with pytest.raises(BadRequestError, match="running"):
        await sessions.archive(session)
    await provider.events.send(session, events=[{"type": "user.interrupt"}])
    async with asyncio.timeout(10):
        while (await sessions.retrieve(session)).status != "idle":
            pass
    async with await provider.events.stream(session) as stream:
        archived = await sessions.archive(session)
        assert (await anext(aiter(stream))).type == "session.status_terminated"
    assert (archived.status, archived.archived_at is None) == ("terminated", False)
    listed = [event.type async for event in provider.events.list(session)]
    assert "session.status_terminated" not in listed
    with pytest.raises(BadRequestError, match="archived"):
        await provider.events.send(session, events=[message("more")])
    assert session not in [s.id async for s in sessions.list(agent_id=provider.agent)]
    assert session in [s.id async for s in sessions.list(include_archived=True, limit=1)]
    assert (await sessions.delete(session)).type == "session_deleted"
    with pytest.raises(NotFoundError):
        await sessions.retrieve(session)
    assert (await provider.log(session))["deleted"]


async def test_the_wire_has_comments_record_names_and_no_ids(provider: Provider) -> None:
    """Comments, record names, no ids: byte by byte."""
    session = await provider.session()
    headers = {**BETA, "authorization": "Bearer k"}
    async with provider.http.stream(
        "GET", f"/v1/sessions/{session}/events/stream", headers=headers
    ) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        await provider.events.send(session, events=[message("[[script: reply]]")])
        text = ""
        async with asyncio.timeout(10):
            async for part in answer.aiter_text():
                text += part
                if "session.status_idle" in text and ":keepalive\n\n" in text:
                    break
    records = [r for r in text.split("\n\n") if r and not r.startswith(":")]
    assert text.startswith(": connected\n\n")
    assert all(record.startswith("event: message\ndata: {") for record in records)
    assert not any(line.startswith("id:") for line in text.splitlines())


async def test_models_are_listed_page_by_page_and_are_those_of_the_sdk(provider: Provider) -> None:
    listed = [model async for model in provider.client.models.list(limit=2)]
    assert len({model.id for model in listed}) == len(listed) == 9
    for model in listed:
        assert ModelInfo.model_validate(model.to_dict(), strict=False).id == model.id
        assert (await provider.client.models.retrieve(model.id)).id == model.id
        assert (model.lifecycle == "active") == (model.deprecated_at is None)
    backwards = await provider.client.models.list(before_id=listed[3].id, limit=2)
    assert [model.id for model in backwards.data] == [model.id for model in listed[1:3]]
    with pytest.raises(NotFoundError):
        await provider.client.models.retrieve("claude-none")
