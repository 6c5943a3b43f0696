"""What the topics make of the gateway's tables."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.gateway.ports import Record
from services.gateway.read_model.projector import Projector
from services.gateway.views import SessionView, TurnView
from shared.bus.envelope import Envelope
from shared.bus.topics import EVENTS, INPUTS
from shared.errors import Transient
from shared.ownership import Binding, Ownership
from tests.fakes.gateway import MemoryReadModel, MemoryRecordConsumer
from tests.fakes.owners import MemoryOwners
from tests.unit.gateway.desk import KEY, NOON, an_event

pytestmark = pytest.mark.unit
AT = "2026-11-21T12:00:00.000000Z"
TURN = {"turn_id": "turn_1", "user_id": "u1", "status": "accepted", "submitted_at": AT}
LATER = "2026-11-21T13:00:00.000000Z"
EARLY = "0001-01-01T00:00:00+23:00"  # in UTC it would be in the year 0
DEEP = msgspec.Raw(b"[" * 100 + b"]" * 100)
BOTTOMLESS = b'{"session_id": "ses_1", "z": %b}' % (b"[" * 100_000 + b"]" * 100_000)
ACTION = {"tool_use_id": "sevt_7", "kind": "confirmation", "name": "bash", "input": {}, "since": AT}


def an_input(type: str, *, key: bytes = b"ses_1", subject: str = "ses_1", **data: Any) -> Record:
    body = {"tenant_id": "acme", "session_id": "ses_1", "at": AT, **data}
    envelope = Envelope(id="in_1", source="test", type=type, time=AT, subject=subject)
    return Record(INPUTS.name, 0, 0, key, msgspec.json.encode(body), envelope.headers())


def recorded(seq: int, type: str, data: dict[str, Any], turn_id: str | None = "turn_1") -> Record:
    return Record(EVENTS.name, 0, seq, b"ses_1", an_event(seq, type, data, turn_id=turn_id), [])


def turn(seq: int, kind: str, status: str, **more: Any) -> Record:
    data = {**TURN, "status": status, **more}
    return recorded(seq, f"turn.{kind}", data, data["turn_id"])


def accepted(seq: int, turn_id: str, on_busy: str = "enqueue") -> Record:
    more = {"turn_id": turn_id, "content": "hi", "input_id": f"in_{turn_id}", "on_busy": on_busy}
    return turn(seq, "accepted", "accepted", **more)


async def project(*records: Record, model: MemoryReadModel | None = None) -> MemoryReadModel:
    """Project the records one per batch."""
    model = model or MemoryReadModel()
    feed = MemoryRecordConsumer([[record] for record in records])
    projector = Projector(feed, model, lambda tenant: tenant == "acme")
    for _ in records:
        await projector.step()
    assert feed.commits == len(records)
    return model


def session(model: MemoryReadModel) -> SessionView:
    return model.rows[KEY].page.view


def view(model: MemoryReadModel, turn_id: str = "turn_1") -> TurnView:
    return model.turns[(*KEY, turn_id)].view


async def test_a_turn_is_shown_as_it_stands() -> None:
    started = {"provider_session_id": "sesn_1", "agent": "a", "model": "m", "attempts": 1}
    usage = {"input_tokens": 3, "output_tokens": 5}
    model = await project(
        recorded(1, "session.opened", {"user_id": "u1", "title": "T"}, None),
        accepted(2, "turn_1"),
        turn(3, "started", "running", **started),
    )
    assert (session(model).status, session(model).open_turn) == ("running", "turn_1")
    spent = {"id": "sevt_5", "usage": {"list_cost": {"amount": "50", "currency": "USD"}}}
    await project(
        recorded(4, "span.model_request_end", {"id": "sevt_4", "model_usage": usage}),
        recorded(5, "session.usage", spent),
        turn(6, "completed", "completed", reply="42", usage=usage, cost_usd=0.5),
        model=model,
    )
    assert (view(model).status, view(model).reply) == ("completed", "42")
    assert (session(model).status, session(model).open_turn) == ("idle", None)
    assert session(model).usage.output_tokens == 5
    assert (session(model).cost_usd, session(model).last_seq) == (0.5, 6)


async def test_the_same_batch_twice_changes_nothing() -> None:
    records = [accepted(1, "turn_1"), turn(2, "completed", "completed", cost_usd=0.5)]
    model = await project(*records)
    before = (dict(model.rows), dict(model.turns))
    await project(*records, model=model)
    assert (model.rows, model.turns) == before


async def test_waiting_turns_are_taken_up_in_order() -> None:
    model = await project(
        accepted(1, "turn_1"),
        accepted(2, "turn_2"),
        accepted(3, "turn_3", "interrupt"),
        turn(4, "refused", "refused", turn_id="turn_2"),
    )
    assert session(model).open_turn == "turn_1"
    await project(turn(5, "interrupted", "interrupted"), model=model)
    assert (session(model).open_turn, session(model).status) == ("turn_3", "running")
    await project(turn(6, "failed", "failed", turn_id="turn_3"), model=model)
    assert (session(model).open_turn, session(model).status) == (None, "idle")


async def test_turns_behind_a_dead_letter_wait_until_it_was_redriven_or_dropped() -> None:
    parked = {"turn_id": "bad", "reason": "invalid_field"}
    model = await project(
        recorded(1, "session.parked", parked, None),
        accepted(2, "turn_2"),
        accepted(3, "turn_3", "interrupt"),
    )
    assert (session(model).open_turn, session(model).status) == (None, "idle")
    again = await project(accepted(4, "bad"), model=model)
    assert (session(again).open_turn, session(again).status) == ("bad", "running")
    await project(turn(5, "completed", "completed", turn_id="bad"), model=model)
    assert session(model).open_turn == "turn_2"

    other = await project(
        accepted(1, "turn_1"),
        recorded(2, "session.parked", parked, None),
        accepted(3, "turn_2"),
        turn(4, "completed", "completed"),
    )
    assert (session(other).open_turn, view(other, "turn_2").status) == (None, "accepted")
    await project(recorded(5, "session.unparked", {"turn_id": "bad"}, None), model=other)
    assert session(other).open_turn == "turn_2"


async def test_pending_actions_come_and_go() -> None:
    call = {
        "id": "ses_1:2",
        "type": "agent.tool_use",
        "name": "bash",
        "evaluated_permission": "ask",
    }
    asked = {**ACTION, "tool_use_id": "ses_1:2"}
    model = await project(
        accepted(1, "turn_1"),
        recorded(2, "agent.tool_use", call),
        turn(3, "requires_action", "requires_action", pending_actions=[asked]),
    )
    assert session(model).status == view(model).status == "requires_action"
    assert [action.tool_use_id for action in session(model).pending_actions] == ["ses_1:2"]
    answer = {"id": "sevt_8", "type": "user.tool_confirmation", "tool_use_id": "ses_1:2"}
    await project(recorded(4, "user.tool_confirmation", answer), model=model)
    assert session(model).pending_actions == ()
    await project(recorded(5, "session.status_running", {"id": "s"}), model=model)
    assert session(model).status == view(model).status == "running"


async def test_inputs_make_turns_visible() -> None:
    wish = an_input("turn.requested", user_id="u1", turn_id="t9", content="hi")
    model = await project(wish)
    assert view(model, "t9").status == "accepted"
    assert session(model).user_id == "u1"


async def test_a_turn_that_went_on_is_not_accepted_again() -> None:
    model = await project(accepted(1, "turn_1"), turn(2, "completed", "completed"))
    await project(
        an_input("turn.requested", user_id="u1", turn_id="turn_1", content="hi"), model=model
    )
    assert view(model).status == "completed"


@pytest.mark.parametrize(
    "record",
    [
        an_input("turn.requested", user_id="u1", turn_id="t", content="a", tenant_id="nobody"),
        an_input("turn.requested", user_id="u1", turn_id="t", content="a", key=b"ses_2"),
        an_input("turn.requested", user_id="u1", turn_id="t", content="a", subject="ses_2"),
        an_input("turn.requested", user_id="u1", turn_id="t"),
        an_input("turn.requested", user_id="u1", turn_id="t", content="a", at="yesterday"),
        an_input("turn.requested", user_id="u1", turn_id="t", content="a", at=EARLY),
        an_input("turn.requested", user_id="u1", turn_id="t", content=" "),
        an_input("turn.requested", user_id="u1", turn_id="t", content=[{"deep": DEEP}]),
        an_input("turn.guessed", user_id="u1"),
        Record(INPUTS.name, 0, 0, b"ses_1", BOTTOMLESS, an_input("turn.requested").headers),
        Record(EVENTS.name, 0, 0, b"ses_1", BOTTOMLESS, []),
        Record(INPUTS.name, 0, 0, b"ses_1", b"{}", []),
        Record(EVENTS.name, 0, 0, b"ses_1", b"not json", []),
        Record(EVENTS.name, 0, 0, None, b"", []),
        recorded(1, "turn.completed", {"turn_id": 7}),
    ],
)
async def test_what_nobody_can_use_is_left_out_and_blocks_nothing(record: Record) -> None:
    model = MemoryReadModel()
    feed = MemoryRecordConsumer([[record, accepted(1, "turn_1")]])
    await Projector(feed, model, lambda tenant: tenant == "acme").step()
    assert view(model).status == "accepted"
    assert len(model.turns) == 1


async def test_what_names_another_tenants_thing_is_not_shown() -> None:
    theirs = [{"type": "document", "source": {"type": "file", "file_id": "file_b"}}]
    ours = [{"type": "document", "source": {"type": "file", "file_id": "file_a"}}]
    records = [
        an_input("session.requested", user_id="u1", agent="agent_b"),
        an_input("turn.requested", user_id="u1", turn_id="stolen", content=theirs),
        an_input("turn.requested", user_id="u1", turn_id="plain", content="file_b"),
        an_input("turn.requested", user_id="u1", turn_id="own", content=ours),
    ]
    owners = MemoryOwners(
        [
            Binding(kind="file", id="file_b", tenant_id="other"),
            Binding(kind="agent", id="agent_b", tenant_id="other"),
        ]
    )
    ownership = Ownership(
        owners, unbound="bind", defaults=(), clock=lambda: NOON, monotonic=lambda: 0.0
    )
    model = MemoryReadModel()
    feed = MemoryRecordConsumer([[record] for record in records])
    projector = Projector(feed, model, lambda _: True, strange=ownership.strange)
    await projector.step()
    await projector.step()
    assert (model.rows, model.turns) == ({}, {})
    await projector.step()
    await projector.step()
    assert {turn_id for *_, turn_id in model.turns} == {"plain", "own"}
    assert session(model).agent is None


async def test_without_the_owners_an_input_that_names_something_waits() -> None:
    content = [{"type": "document", "source": {"type": "file", "file_id": "file_a"}}]
    record = an_input("turn.requested", user_id="u1", turn_id="t1", content=content)
    owners = MemoryOwners()
    owners.down = True
    ownership = Ownership(
        owners, unbound="bind", defaults=(), clock=lambda: NOON, monotonic=lambda: 0.0
    )
    feed = MemoryRecordConsumer([[record]])
    projector = Projector(feed, MemoryReadModel(), lambda _: True, strange=ownership.strange)
    with pytest.raises(Transient):
        await projector.step()
    assert feed.commits == 0


async def test_nothing_is_committed_before_it_is_written() -> None:
    model = MemoryReadModel(down=True)
    feed = MemoryRecordConsumer([[accepted(1, "turn_1")]])
    projector = Projector(feed, model, lambda tenant: True)
    with pytest.raises(Transient):
        await projector.step()
    assert feed.commits == 0
    await feed.rewind()
    model.down = False
    await projector.step()
    assert (feed.commits, view(model).status) == (1, "accepted")


async def test_a_session_asked_to_close_is_closing_and_then_closed() -> None:
    model = await project(
        an_input("session.requested", user_id="u1", title="T"),
        an_input("session.erase_requested"),
    )
    assert (model.rows[KEY].page.closing, session(model).status) == ("erase", "idle")
    await project(accepted(1, "turn_1"), model=model)
    await project(recorded(2, "session.erased", {"reason": "asked"}, None), model=model)
    assert (session(model).status, session(model).title) == ("erased", None)
    assert model.turns == {}


async def test_a_turn_that_ends_after_the_erasure_is_not_kept() -> None:
    model = await project(
        accepted(1, "turn_1"),
        recorded(2, "session.erased", {"reason": "asked"}, None),
        turn(3, "interrupted", "interrupted", reply="half an answer"),
        turn(4, "refused", "refused", turn_id="turn_2", submitted_at=LATER),
        turn(5, "requires_action", "requires_action", pending_actions=[ACTION]),
    )
    assert [key[2] for key in model.turns] == ["turn_2"]
    assert (session(model).status, session(model).open_turn) == ("erased", None)
    assert (session(model).last_seq, session(model).pending_actions) == (5, ())


async def test_what_comes_again_for_an_erased_session_changes_nothing() -> None:
    """Offsets were rewound: what was asked before the erasure is read, and refused by the worker, once more."""
    asked = an_input("turn.requested", user_id="u1", turn_id="turn_1", content="hi")
    late = an_input("turn.requested", user_id="u1", turn_id="turn_2", content="hi", at=LATER)
    model = await project(
        accepted(1, "turn_1"),
        recorded(2, "session.erased", {"reason": "asked"}, None),
        asked,
        an_input("session.requested", user_id="u1", title="T", metadata={"a": "b"}),
        an_input("session.archive_requested"),
        turn(3, "refused", "refused"),
        late,
    )
    assert [key[2] for key in model.turns] == ["turn_2"]
    assert (model.rows[KEY].page.closing, session(model).title) == ("erase", None)
