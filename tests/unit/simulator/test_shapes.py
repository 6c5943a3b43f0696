"""Every event the simulator makes has the shape the provider's SDK and its recorded streams have."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from anthropic._models import BaseModel
from anthropic.types.beta.sessions import (
    BetaManagedAgentsSessionEvent,
    BetaManagedAgentsStreamSessionEvents,
)

from infra.simulator.api.app import build
from infra.simulator.faults.rules import Faults
from tests.unit.simulator.provider import Client, a_world, message, play_through

pytestmark = pytest.mark.unit

HERE = Path(__file__).parent
OWN = HERE / "shapes.json"
RECORDED = HERE.parents[3] / "shared" / "data" / "provider_streams.jsonl"
OPEN = ("input", "content", "metadata", "error")  # fields whose inside differs from event to event
PROMPTS = (
    "[[script: reply late=1]]",
    "[[script: tools]]",
    "[[script: confirm calls=2]]",
    "[[script: custom_tool calls=2]]",
    "[[script: threads ask=1]]",
    "[[script: long events=60]]",
    "[[script: refusal]]",
    "[[script: retries_exhausted]]",
    "[[script: error_retrying]]",
    "[[script: budget]]",
    "[[script: mcp calls=2 failed=1]]",
    "[[script: compaction]]",
    "[[script: workflow fails=1]]",
    "[[script: workflow after=1]]",
    "[[script: workflow refused=1]]",
    "[[script: exhausted unprocessed=1]]",
    "[[script: terminal]]",
)
OUTCOME = {
    "type": "user.define_outcome",
    "description": "a page [[script: outcome revise=1]]",
    "rubric": {"type": "text", "content": "one page"},
}

HEADERS = {
    "anthropic-beta": "managed-agents-2026-04-01",
    "anthropic-version": "2026-10-21",
    "x-api-key": "k",
}


def classes(union: Any) -> dict[str, type[BaseModel]]:
    """The SDK's class for each event type."""
    members = get_args(get_args(union)[0])
    return {get_args(cls.model_fields["type"].annotation)[0]: cls for cls in members}


LISTED, STREAMED = (
    classes(BetaManagedAgentsSessionEvent),
    classes(BetaManagedAgentsStreamSessionEvents),
)


def extras(model: Any, at: str) -> list[str]:
    """Paths of fields that the SDK's class does not know."""
    if isinstance(model, list):
        return [path for item in model for path in extras(item, at)]
    if not isinstance(model, BaseModel):
        return []
    unknown = [f"{at}.{name}" for name in model.model_extra or {}]
    for name in type(model).model_fields:
        unknown += extras(getattr(model, name), f"{at}.{name}")
    return unknown


def shape(event: dict[str, Any]) -> frozenset[str]:
    """The paths of an event's keys; lists and free-form fields are not entered."""
    paths = set()
    for key, value in event.items():
        paths.add(key)
        if isinstance(value, dict) and key not in OPEN:
            paths |= {f"{key}.{path}" for path in shape(value)}
    return frozenset(paths)


async def made() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events of every script: as listed, and as streamed (previews among them)."""
    limit = {"type": "limit", "max_list_cost": {"amount": "100000", "currency": "USD"}}
    listed: list[dict[str, Any]] = []
    streamed: list[dict[str, Any]] = []
    for more in ({}, {"budget": limit}):
        world = a_world()
        client = Client(world, initial_events=[OUTCOME], **more)
        await client.idle("end_turn")
        for prompt in PROMPTS:
            await play_through(client, prompt)
        listed += client.everything()
        streamed += client.seen
    return listed, streamed


async def test_every_type_of_the_sdk_is_played() -> None:
    """Whatever the provider's own list and streams can hold has been seen in the simulator's."""
    listed, streamed = await made()
    types = {event["type"] for event in [*listed, *streamed, *await by_the_client()]}
    assert types == set(LISTED) | set(STREAMED)


async def by_the_client() -> list[dict[str, Any]]:
    """Events that a client's own requests make: on a sandbox of its own, and through the whole application."""
    world = a_world()
    world.environments["env_1"]["config"] = {"type": "self_hosted"}
    client = Client(world)
    client.send(message("[[script: tools rounds=1 calls=1]]"))
    idle = await client.idle("requires_action")
    (call,) = idle["stop_reason"]["event_ids"]
    result = {"type": "user.tool_result", "tool_use_id": call, "content": []}
    client.send(result, {"type": "system.message", "content": [{"type": "text", "text": "Hurry."}]})
    await client.idle("end_turn")
    client.send({"type": "user.interrupt"})
    await client.until(lambda event: event["type"] == "user.interrupt")
    transport = httpx2.ASGITransport(app=build(world, Faults(1)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://simulator") as http:
        where = f"/v1/sessions/{client.session.id}"
        await http.post(where, json={"title": "Renamed"}, headers=HEADERS)
        await client.until(lambda event: event["type"] == "session.updated")
        await http.delete(where, headers=HEADERS)
        await client.until(lambda event: event["type"] == "session.deleted")
    return [*client.everything(), *client.seen]


async def test_listed_events_are_what_the_sdk_expects() -> None:
    listed, _ = await made()
    for event in listed:
        model = LISTED[event["type"]].model_validate(event)
        assert extras(model, event["type"]) == []


async def test_streamed_events_are_what_the_sdk_expects() -> None:
    _, streamed = await made()
    types = {event["type"] for event in streamed}
    assert {"event_start", "event_delta", "agent.message", "session.usage"} <= types
    for event in streamed:
        model = STREAMED[event["type"]].model_validate(event)
        assert extras(model, event["type"]) == []


async def test_shapes_are_those_of_the_fixture() -> None:
    """The fixture lists key paths per event type, taken from streams of the live API."""
    await compare(
        {
            kind: {frozenset(keys) for keys in shapes}
            for kind, shapes in json.loads(OWN.read_text()).items()
        }
    )


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded streams are not on this machine")
async def test_shapes_are_those_of_recorded_streams() -> None:
    recorded: dict[str, set[frozenset[str]]] = defaultdict(set)
    for line in RECORDED.read_text().splitlines():
        row = json.loads(line)
        if row["kind"] == "stream":
            recorded[row["event"]["type"]].add(shape(row["event"]))
    await compare(recorded)


async def compare(known: dict[str, set[frozenset[str]]]) -> None:
    """Every event of a known type has one of the known shapes, but for what is said below."""
    listed, streamed = await made()
    compared = set()
    for event in [*listed, *streamed]:
        shapes = known.get(event["type"])
        if shapes is None:
            continue
        compared.add(event["type"])
        own = shape(event) - {"workflow_run_id"}  # no workflow run was recorded
        if event["type"] == "session.usage" and "budget" not in event:
            shapes = {frozenset(k for k in keys if not k.startswith("budget")) for keys in shapes}
        if event["type"].endswith("status_idle"):  # not every stop reason was recorded
            own -= {path for path in own if path.startswith("stop_")}
            shapes = {frozenset(k for k in keys if not k.startswith("stop_")) for keys in shapes}
        assert own in shapes, event
    assert len(compared) >= 15
