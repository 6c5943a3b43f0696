"""Real users' turns, all of them: each sent once, answered, and recorded as the provider made it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.archive import Archive, Row
from tests.e2e.provider import Log, Provider
from tests.e2e.recorded import assert_recorded, assert_sent_once, turn_rows
from tests.e2e.tenants import ACME

TURNS_FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "user_turns.jsonl"
AT_ONCE = 40

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not TURNS_FILE.exists(), reason=f"{TURNS_FILE} is not on this machine"),
]


class Played(NamedTuple):
    """A conversation after its last turn: turn pages in order, its rows and the provider's log."""

    session_id: str
    texts: list[str]
    pages: list[Json]
    rows: list[Row]
    log: Log


@pytest.fixture(scope="module")
async def played(api: Api, archive: Archive, provider: Provider) -> list[Played]:
    """All conversations, 40 at a time."""
    lines = TURNS_FILE.read_text(encoding="utf-8").rstrip("\n").split("\n")
    conversations = [json.loads(line) for line in lines]
    gate = asyncio.Semaphore(AT_ONCE)
    began = time.monotonic()

    async def one(number: int, texts: list[str]) -> Played:
        session_id = f"user-turns-{number}"
        async with gate:
            pages = [await _turn(api, session_id, n, text) for n, text in enumerate(texts, 1)]
        page = await api.settled(session_id, timeout=120)
        rows = await archive.complete(ACME, session_id, page["last_seq"], timeout=120)
        return Played(session_id, texts, pages, rows, await provider.only(ACME, session_id))

    found = await asyncio.gather(*(one(n, c["turns"]) for n, c in enumerate(conversations)))
    turns = sum(len(conversation.texts) for conversation in found)
    print(f"\n{turns} turns of {len(found)} conversations: {time.monotonic() - began:.1f} s")
    return list(found)


async def _turn(api: Api, session_id: str, number: int, text: str) -> Json:
    if number == 1:
        await api.open(session_id)
    await api.say(session_id, f"turn-{number}", text)
    return await api.ended(session_id, f"turn-{number}", timeout=120)


def test_every_reply_is_complete(played: list[Played]) -> None:
    for one in played:
        for text, page in zip(one.texts, one.pages, strict=True):
            assert (page["status"], page["reply"]) == ("completed", reply_to(text))


def test_every_message_reached_the_provider_verbatim_and_once(played: list[Played]) -> None:
    for one in played:
        assert_sent_once(one.log, one.texts)


def test_every_turn_is_recorded_from_acceptance_to_end(played: list[Played]) -> None:
    for one in played:
        for number, text in enumerate(one.texts, start=1):
            types = turn_rows(one.rows, f"turn-{number}")
            assert types == ["turn.accepted", "turn.started", "turn.completed"]
            [accepted] = [
                row
                for row in one.rows
                if row.type == "turn.accepted" and row.turn_id == f"turn-{number}"
            ]
            assert accepted.body["content"] == text


def test_the_archive_is_the_providers_own_log(played: list[Played]) -> None:
    for one in played:
        assert_recorded(one.rows, one.log)


def test_the_events_of_a_turn_carry_its_id(played: list[Played]) -> None:
    for one in played:
        outside = {"session.opened", "session.idled"}
        stray = [row for row in one.rows if not row.turn_id and row.type not in outside]
        assert stray == []


async def test_the_turns_table_has_every_played_turn(
    archive: Archive, played: list[Played]
) -> None:
    rows = await archive.query(
        "SELECT session_id, countIf(status = 'completed'), count() FROM turn_facts"
        " WHERE tenant_id = {tenant:String} AND startsWith(session_id, 'user-turns-')"
        " GROUP BY session_id",
        tenant=ACME,
    )
    wanted = {one.session_id: (len(one.texts), len(one.texts)) for one in played}
    assert {row[0]: (row[1], row[2]) for row in rows} == wanted
