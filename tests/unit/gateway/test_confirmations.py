"""A credential that is put in or rotated confirms what waits for a connection, in sessions that have its vault."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from shared.session import Input
from shared.session.events import Event
from tests.builders import SESSION, TENANT, USER, Wire, bound, confirming, opening, seen, turn
from tests.unit.gateway.desk import Desk
from tests.unit.gateway.test_answers import project, recorded
from tests.unit.gateway.test_vaults import BEARER, VARIABLE, made
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit


def waiting(wire: Wire, *more: Input, **how: Any) -> tuple[Event, ...]:
    """A session whose turn waits for `github`."""
    said = wire.prompt(), wire.running(), wire.unconnected(), wire.idle("retries_exhausted")
    return history(opening(**how), turn("t1"), bound(), seen(*said), *more)


async def a_desk(*, vault: dict[str, str] | None = None, **how: Any) -> tuple[Desk, str]:
    """A gateway that has projected such a session, and a vault; the session names it if it names any."""
    desk = Desk()
    made_for = await made(desk, **(vault or {}))
    if how.pop("named", False):
        how["vault_ids"] = [made_for]
    await project(desk, [recorded(event) for event in waiting(Wire(), **how)])
    return desk, made_for


async def put(desk: Desk, vault: str, auth: Any = BEARER) -> str:
    async with desk.client() as client:
        answer = await client.post(f"/v1/vaults/{vault}/credentials", json={"auth": auth})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["credential_id"])


def confirmed(desk: Desk) -> list[tuple[str, Any]]:
    """What was published: session, data."""
    published = [one for one in desk.inputs.published if one[0].type == "tool.confirmed"]
    return [(envelope.subject, msgspec.json.decode(value)) for envelope, value in published]


async def test_a_new_credential_confirms_what_waits() -> None:
    desk, vault = await a_desk()
    await put(desk, vault)
    ((session, data),) = confirmed(desk)
    assert session == SESSION
    said = {"tenant_id": TENANT, "tool_use_id": "sevt_3", "result": "allow"}
    assert {name: data[name] for name in said} == said


async def test_so_does_a_rotated_one_and_both_are_one_confirmation() -> None:
    desk, vault = await a_desk()
    credential = await put(desk, vault)
    body = {"auth": {"type": "static_bearer", "token": "another"}}
    async with desk.client() as client:
        await client.post(f"/v1/vaults/{vault}/credentials/{credential}/rotate", json=body)
    ids = {one.id for one, _ in desk.inputs.published if one.type == "tool.confirmed"}
    assert len(confirmed(desk)) == 2
    assert len(ids) == 1, "the inbox files it once"


@pytest.mark.parametrize(
    ("vault", "how", "confirms"),
    [
        ({}, {"named": True}, True),
        ({}, {"vault_ids": ["vlt_of_mine"]}, False),
        ({}, {"vault_ids": []}, False),
        ({"user_id": USER}, {}, True),
        ({"user_id": "somebody"}, {}, False),
        ({"user_id": "somebody"}, {"named": True}, True),
        ({"project": "web"}, {"metadata": {"project": "web"}}, True),
        ({"project": "web"}, {}, False),
    ],
)
async def test_only_sessions_that_have_the_vault_are_told(
    vault: dict[str, str], how: dict[str, Any], confirms: bool
) -> None:
    desk, id = await a_desk(vault=vault, **how)
    await put(desk, id)
    assert bool(confirmed(desk)) is confirms


async def test_a_variable_connects_nothing() -> None:
    desk, vault = await a_desk()
    await put(desk, vault, VARIABLE)
    assert confirmed(desk) == []


async def test_what_was_confirmed_meanwhile_is_left_alone() -> None:
    desk, vault = await a_desk()
    events = waiting(Wire(), confirming("sevt_3", 9))
    await project(desk, [recorded(event) for event in events])
    await put(desk, vault)
    assert confirmed(desk) == []


async def test_without_the_log_the_credential_stands_and_people_can_confirm() -> None:
    desk, vault = await a_desk()
    desk.inputs.down = True
    await put(desk, vault)
    desk.inputs.down = False
    async with desk.client() as client:
        body = {"tool_use_id": "sevt_3", "result": "allow"}
        path = f"/v1/sessions/{SESSION}/tool_confirmations"
        assert (await client.post(path, json=body)).status_code == 202


async def test_a_turn_that_comes_to_wait_a_moment_later_is_told_too() -> None:
    desk = Desk()
    vault = await made(desk)
    await put(desk, vault)
    await project(desk, [recorded(event) for event in waiting(Wire())])
    assert confirmed(desk) == []
    await asyncio.gather(*desk.confirmations.looks)
    assert [session for session, _ in confirmed(desk)] == [SESSION]


async def test_another_tenants_session_is_not_told() -> None:
    desk, _ = await a_desk()
    async with desk.client("key-b") as client:
        made_by_b = (await client.post("/v1/vaults", json={"display_name": "b"})).json()
        path = f"/v1/vaults/{made_by_b['vault_id']}/credentials"
        assert (await client.post(path, json={"auth": BEARER})).status_code == 201
    assert confirmed(desk) == []
