"""One suite for the worker's Store: in memory, on SQLite, on PostgreSQL. Inbox, claims and leases."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from services.agent_worker.ports import NewInput, Store
from shared.session.inputs import REQUESTS, TurnRequested
from tests.builders import TENANT, at
from tests.contract.store_rows import CONTEXT, EXPIRED, KEY, LEASE, OTHER, asked, claimed

pytestmark = pytest.mark.contract


# ---- inbox ----------------------------------------------------------------------------------------------------


async def test_an_input_is_filed_once_for_ever(store: Store) -> None:
    assert await store.file([asked("t1"), asked("t2"), asked("t1")]) == {KEY}
    assert await store.file([asked("t1", content="another")]) == set()
    found = [unread.filed for unread in await store.unread(KEY, 0)]
    assert [filed.input_id for filed in found] == ["turn:t1", "turn:t2"]
    assert getattr(found[0].request, "content", None) == "hello"
    assert (found[0].traceparent, found[0].received_at) == (CONTEXT, at(1))


def interrupt(input_id: str, formerly: str = "", at: str = "2026-11-21T10:00:00Z") -> NewInput:
    kind = "interrupt.requested"
    body = msgspec.json.encode({"tenant_id": TENANT, "session_id": "s1", "at": at})
    return NewInput(KEY, input_id, kind, body, formerly=formerly)


async def test_what_was_filed_before_publishers_were_told_apart_is_filed_once(store: Store) -> None:
    """A record that comes again after an upgrade: its row stands under the id it had before."""
    await store.file([interrupt("ce:1"), interrupt("ce:2"), asked("t1")])
    again = interrupt("from:a:1", formerly="ce:1")
    restamped = interrupt("from:a:2", formerly="ce:2", at="2026-11-21T10:00:07Z")
    assert await store.file([again, restamped]) == set()
    another = replace(again, kind="session.archive_requested", input_id="from:b:1")
    unseen = interrupt("from:a:3", formerly="ce:3")
    assert await store.file([again, another, unseen, interrupt("ce:4")]) == {KEY}
    found = [unread.filed.input_id for unread in await store.unread(KEY, 0)]
    assert found == ["ce:1", "ce:2", "turn:t1", "from:b:1", "from:a:3", "ce:4"]


async def test_the_same_id_in_two_sessions_is_two_inputs(store: Store) -> None:
    foreign = ("other", "s1")
    assert await store.file([asked(), asked(key=OTHER)]) == {KEY, OTHER}
    assert await store.file([asked(key=foreign)]) == {foreign}
    assert len(await store.claim("a", 10, LEASE)) == 3


async def test_inputs_are_read_in_the_order_they_were_filed(store: Store) -> None:
    await store.file([asked(f"t{n}") for n in range(30)])
    await store.file([asked(f"u{n}") for n in range(30)])
    found = await store.unread(KEY, 0)
    expected = [f"turn:t{n}" for n in range(30)] + [f"turn:u{n}" for n in range(30)]
    assert [unread.filed.input_id for unread in found] == expected
    assert await store.unread(KEY, found[29].position) == found[30:]


async def test_one_read_of_the_inbox_is_bounded(store: Store) -> None:
    await store.file([asked(f"t{n}") for n in range(1_005)])
    found = await store.unread(KEY, 0)
    assert len(found) == 1_000
    assert len(await store.unread(KEY, found[-1].position)) == 5


async def test_an_input_can_be_read_again(store: Store) -> None:
    await store.file([asked("t1"), asked("t2")])
    (first, _) = await store.unread(KEY, 0)
    assert await store.read(KEY, "turn:t1") == first.filed
    with pytest.raises(KeyError):
        await store.read(KEY, "turn:t9")
    with pytest.raises(KeyError):
        await store.read(OTHER, "turn:t1")


@pytest.mark.parametrize(
    "content", ["👩‍👩‍👧 \u0000\u2028 שלום " * 3, "x" * 1_048_576], ids=["script", "1 MiB"]
)
async def test_any_content_comes_back_as_it_was(store: Store, content: str) -> None:
    await store.file([asked(content=content)])
    (found,) = await store.unread(KEY, 0)
    assert isinstance(found.filed.request, TurnRequested)
    assert found.filed.request.content == content


async def test_every_kind_of_request_can_be_filed(store: Store) -> None:
    for kind in REQUESTS.keys() - {"turn.requested", "session.requested"}:
        more: dict[str, dict[str, Any]] = {
            "tool.confirmed": {"tool_use_id": "sevt_1", "result": "deny"},
            "tool.answered": {"custom_tool_use_id": "sevt_1", "content": "42"},
            "budget.raised": {"budget_usd": 5.0},
            "turn.dropped": {"turn_id": "t1"},
            "turn.parked": {"turn_id": "t1", "user_id": "u1", "reason": "invalid_field"},
        }
        data = {"tenant_id": TENANT, "session_id": "s1", "at": "2026-11-21T10:00:00Z"}
        body = msgspec.json.encode(data | more.get(kind, {}))
        await store.file([NewInput(KEY, f"ce:{kind}", kind, body)])
        assert type((await store.read(KEY, f"ce:{kind}")).request) is REQUESTS[kind]


# ---- claims ---------------------------------------------------------------------------------------------------


async def test_a_session_with_news_is_claimed_and_its_epoch_raised(store: Store) -> None:
    assert await store.claim("a", 10, LEASE) == []
    await store.file([asked()])
    head = await claimed(store, lease=EXPIRED)
    assert (head.key, head.epoch, head.version, head.state.status) == (KEY, 1, 0, "new")
    assert (await claimed(store, "b")).epoch == 2
    assert await store.claim("a", 10, LEASE) == []


async def test_no_more_are_claimed_than_wished_and_the_longest_due_first(store: Store) -> None:
    for n in range(5):
        await store.file([asked(key=(TENANT, f"s{n}"))])
        await asyncio.sleep(0.002)
    first = await store.claim("a", 2, LEASE)
    rest = await store.claim("a", 10, LEASE)
    assert {head.key[1] for head in first} == {"s0", "s1"}
    assert {head.key[1] for head in rest} == {"s2", "s3", "s4"}


async def test_two_claims_at_once_share_no_session(store: Store) -> None:
    await store.file([asked(key=(TENANT, f"s{n:03}")) for n in range(120)])
    owners = [f"owner-{n}" for n in range(6)]
    found = await asyncio.gather(*(store.claim(o, 10, LEASE) for o in owners for _ in range(2)))
    keys = [head.key for heads in found for head in heads]
    assert len(keys) == len(set(keys)) == 120


async def test_a_lease_can_be_kept(store: Store) -> None:
    await store.file([asked(), asked(key=OTHER)])
    await store.claim("a", 1, EXPIRED)
    assert len(await store.extend("a", LEASE)) == 1
    assert await store.extend("b", LEASE) == {}
    assert len(await store.claim("b", 10, LEASE)) == 1
    assert len(await store.extend("b", LEASE)) == 1


async def test_a_lease_that_was_taken_over_is_not_ones_own(store: Store) -> None:
    await store.file([asked()])
    await store.claim("a", 10, EXPIRED)
    await store.claim("b", 10, LEASE)
    assert await store.extend("a", LEASE) == {}
    assert await store.extend("b", LEASE) == {KEY: 2}


async def test_a_session_can_be_let_go_of(store: Store) -> None:
    await store.file([asked()])
    await store.claim("a", 10, LEASE)
    await store.let_go("b", [KEY], 0.0)
    assert await store.claim("b", 10, LEASE) == []
    await store.let_go("a", [KEY], LEASE)
    assert await store.claim("b", 10, LEASE) == []
    assert await store.extend("a", LEASE) == {}


async def test_a_session_let_go_of_for_no_time_is_due_at_once(store: Store) -> None:
    await store.file([asked()])
    await store.claim("a", 10, LEASE)
    await store.let_go("a", [KEY], 0.0)
    assert (await claimed(store, "b")).epoch == 2


async def test_an_owner_has_news_of_its_own_sessions_only(store: Store) -> None:
    await store.file([asked()])
    head = await claimed(store)
    assert await store.with_news("a") == {KEY}
    assert await store.with_news("b") == set()
    head = await store.write(replace(head, position=1, taken=1))
    assert await store.with_news("a") == set()
    await store.file([asked("t2")])
    assert await store.with_news("a") == {KEY}
