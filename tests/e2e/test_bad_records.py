"""A record nobody can use is a dead letter with its reason, and the turns around it are played."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.provider import Provider
from tests.e2e.publishing import Dead, Publisher, Sent, dead_letters, publishing, record, turn
from tests.e2e.refused import assert_refused
from tests.e2e.tenants import ACME
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = pytest.mark.e2e
SESSION = "bad-records"
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
async def session(api: Api) -> str:
    """A session that stays good whatever is published for it."""
    await api.open(SESSION)
    return SESSION


Spoil = Callable[[Sent], None]


def _good() -> Sent:
    return turn(ACME, SESSION, "never", "a bad turn")


def _headers(**change: bytes) -> Spoil:
    return lambda sent: sent.headers.update(change)


def _without(name: str) -> Spoil:
    return lambda sent: sent.headers.__delitem__(name)


def _value(value: bytes | None) -> Spoil:
    return lambda sent: setattr(sent, "value", value)


def _key(key: bytes | None) -> Spoil:
    return lambda sent: setattr(sent, "key", key)


def _fields(**change: Any) -> Spoil:
    def spoil(sent: Sent) -> None:
        sent.value = json.dumps({**json.loads(sent.value or b""), **change}).encode()

    return spoil


def _deep(sent: Sent) -> None:
    _fields(content=[{"type": "image", "source": "HERE"}])(sent)
    sent.value = (sent.value or b"").replace(b'"HERE"', DEEP.encode())


BAD: list[tuple[str, Spoil, str, str]] = [
    ("unknown type", _headers(ce_type=b"turn.guessed"), "unknown_type", "ce_type"),
    ("no headers", lambda sent: sent.headers.clear(), "missing_header", "ce_specversion"),
    ("no type", _without("ce_type"), "missing_header", "ce_type"),
    ("no id", _without("ce_id"), "missing_header", "ce_id"),
    ("other version", _headers(ce_specversion=b"2.0"), "bad_header", "ce_specversion"),
    ("no text", _headers(ce_source=b"\xff"), "bad_header", "ce_source"),
    ("zero byte", _headers(ce_id=b"a\0b"), "bad_header", "ce_id"),
    ("long id", _headers(ce_id=b"i" * 257), "bad_header", "ce_id"),
    ("no JSON", _value(b"{nonsense"), "invalid_json", "malformed"),
    ("no value", _value(None), "invalid_json", ""),
    ("not UTF-8", _value(b'{"content": "\xff"}'), "invalid_json", "UTF-8"),
    ("not an object", _value(b"[]"), "invalid_field", "object"),
    ("bottomless", _deep, "invalid_field", "deep"),
    ("other key", _key(b"another-session"), "key_mismatch", "key"),
    ("no key", _key(None), "key_mismatch", "key"),
    ("other subject", _headers(ce_subject=b"another"), "subject_mismatch", "ce_subject"),
    ("unknown field", _fields(contnet="x"), "invalid_field", "contnet"),
    ("oversize id", _fields(turn_id="t" * 129), "invalid_field", "turn_id"),
    ("bad id", _fields(user_id="a/b"), "invalid_field", "user_id"),
    ("no content", _fields(content=" \n"), "invalid_field", "content"),
    ("no source", _fields(content=[{"type": "image"}]), "invalid_field", "$.content[0].source"),
    ("unknown block", _fields(content=[{"type": "a"}]), "invalid_field", "$.content[0].type"),
    ("no user", _fields(user_id=None), "invalid_field", "$.user_id"),
    ("no such mode", _fields(mode="fast"), "invalid_field", "interactive or background"),
    ("wrong type", _fields(content=7), "invalid_field", "content"),
    ("no time", _fields(at="yesterday"), "invalid_field", "$.at"),
    ("no such year", _fields(at="0001-01-01T00:00:00+23:00"), "invalid_field", "$.at"),
    ("no such tenant", _fields(tenant_id="nobody"), "unknown_tenant", "nobody"),
]


@pytest.fixture(scope="module")
async def publisher(local_stack: LocalStack) -> AsyncIterator[Publisher]:
    async with publishing(local_stack.kafka) as publisher:
        yield publisher


@pytest.fixture(scope="module")
async def buried(
    local_stack: LocalStack, api: Api, session: str, publisher: Publisher
) -> dict[str, tuple[Sent, str, list[Dead]]]:
    """Every bad record, published among good turns: as it was sent, its place, its dead letters."""
    sent: dict[str, tuple[Sent, str]] = {}
    for number, (name, spoil, _, _) in enumerate(BAD):
        record = _good()
        spoil(record)
        sent[name] = (record, await publisher.publish(record))
        await publisher.publish(turn(ACME, session, f"between-{number}", f"good {number}"))

    async def look() -> list[Dead] | None:
        found = await dead_letters(local_stack.kafka)
        sources = {dead.marks.get("source") for dead in found}
        return found if {source for _, source in sent.values()} <= sources else None

    letters = await eventually(look, "every bad record among the dead letters")
    return {
        name: (record, source, [dead for dead in letters if dead.marks.get("source") == source])
        for name, (record, source) in sent.items()
    }


@pytest.mark.parametrize(("name", "reason", "word"), [(b[0], b[2], b[3]) for b in BAD])
def test_a_bad_record_is_a_dead_letter_with_its_reason(
    buried: dict[str, tuple[Sent, str, list[Dead]]], name: str, reason: str, word: str
) -> None:
    sent, source, letters = buried[name]
    assert len(letters) == 1
    [dead] = letters
    assert (dead.marks["reason"], dead.marks["attempts"]) == (reason, "1")
    assert dead.marks["source"] == source
    assert word in dead.marks["detail"]
    assert dead.marks["at"].endswith("Z")
    assert (dead.key, dead.value or None, dead.headers) == (sent.key, sent.value, sent.headers)


async def test_the_turns_around_bad_records_are_played(
    api: Api, provider: Provider, session: str, buried: object
) -> None:
    for number in range(len(BAD)):
        page = await api.turn_in(session, f"between-{number}", "completed")
        assert page["reply"] == reply_to(f"good {number}")
    assert "a bad turn" not in (await provider.only(ACME, session)).prompts
    answer = await api.http.get(f"/v1/sessions/{session}/turns/never")
    assert_refused(answer, 404, "unknown_turn")


async def test_an_answer_nobody_waits_for_is_a_dead_letter(
    local_stack: LocalStack, api: Api, session: str, publisher: Publisher
) -> None:
    wish = record("tool.confirmed", ACME, session, tool_use_id="sevt_0", result="allow")
    await publisher.publish(wish)

    async def look() -> Dead | None:
        found = await dead_letters(local_stack.kafka)
        mine = [
            d
            for d in found
            if (d.key, d.marks.get("reason")) == (session.encode(), "unknown_action")
        ]
        return mine[0] if mine else None

    dead = await eventually(look, "a dead letter of an answer to nothing")
    assert "sevt_0" in dead.marks["detail"]
    assert dead.headers["ce_type"] == b"tool.confirmed"
    assert json.loads(dead.value or b"")["tool_use_id"] == "sevt_0"
    await api.say(session, "after", "still here?")
    page = await api.turn_in(session, "after", "completed")
    assert page["reply"] == reply_to("still here?")
