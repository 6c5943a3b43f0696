"""Whatever the provider says, in whatever shape: it is recorded, folded and kept, and nothing breaks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from shared.session import Event, SessionState, decide, fold, initial
from shared.session.evolve_provider import PROVIDER
from shared.session.inputs import ProviderEvent, Seen
from shared.session.state import decode, encode
from tests.builders import SESSION, TENANT, at, bound, turn

pytestmark = pytest.mark.unit
KINDS = [
    *PROVIDER,
    "session.status_idle",
    "session.status_terminated",
    "session.deleted",
    "x.new",
    "agent.new",
]
FIELDS = [
    "content",
    "tool_use_id",
    "custom_tool_use_id",
    "mcp_tool_use_id",
    "name",
    "input",
    "evaluated_permission",
    "evaluation",
    "is_error",
    "model_usage",
    "usage",
    "stop_reason",
    "error",
    "session_thread_id",
    "processed_at",
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["end_turn", "requires_action", "exhausted", "ask", "text", "12", at(3)]),
)
INNER = [
    "type", "text", "amount", "list_cost", "event_ids", "retry_status", "message", "input_tokens",
]  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4)
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5)


@st.composite
def strange_events(draw: st.DrawFn) -> tuple[ProviderEvent, ...]:
    found = []
    for n in range(draw(st.integers(1, 8))):
        kind, body = draw(st.sampled_from(KINDS)), draw(BODIES)
        raw = msgspec.json.encode({**body, "id": f"sevt_{n}", "type": kind})
        thread = draw(st.sampled_from([None, None, None, "sthr_1"]))
        found.append(ProviderEvent(id=f"sevt_{n}", type=kind, at=at(n), raw=raw, thread_id=thread))
    return tuple(found)


def running() -> tuple[SessionState, list[Event]]:
    state, events = initial(TENANT, SESSION), list[Event]()
    for input in (turn("t1"), turn("t2"), bound()):
        decision = decide(state, input)
        state, events = decision.state, [*events, *decision.events]
    return state, events


@for_all(strange_events(), st.integers(1, 4))
@settings(deadline=None, max_examples=400)
def test_any_shape_is_recorded_folded_and_kept(
    strange: tuple[ProviderEvent, ...], size: int
) -> None:
    state, events = running()
    for start in range(0, len(strange), size):
        batch = strange[start : start + size]
        decision = decide(state, Seen(events=batch, at=batch[-1].at, chance=0.5))
        state, events = decision.state, [*events, *decision.events]
    recorded = {event.event_id: bytes(event.data) for event in events}
    assert all(recorded[event.id] == event.raw for event in strange)
    assert fold(events, initial(TENANT, SESSION)) == state
    assert decode(encode(state)) == state


WRONG: list[Any] = [None, True, 7, -1.5, "text", [], {}, [None], [{}], {"type": None}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_another_shape_breaks_nothing(kind: str, field: str) -> None:
    for wrong in WRONG:
        state, events = running()
        raw = msgspec.json.encode({"id": "sevt_1", "type": kind, field: wrong})
        strange = ProviderEvent(id="sevt_1", type=kind, at=at(1), raw=raw)
        decision = decide(state, Seen(events=(strange,), at=at(1)))
        assert bytes(decision.events[0].data) == raw
        assert fold([*events, *decision.events], initial(TENANT, SESSION)) == decision.state


def test_half_a_surrogate_pair_is_folded_as_a_question_mark_and_kept_as_it_is() -> None:
    state, events = running()
    raw = rb'{"id":"sevt_1","type":"agent.message","content":[{"type":"text","text":"cut \ud83d"}]}'
    strange = ProviderEvent(id="sevt_1", type="agent.message", at=at(1), raw=raw)
    decision = decide(state, Seen(events=(strange,), at=at(1)))
    assert decision.state.turn is not None
    assert decision.state.turn.reply == "cut ?"
    assert bytes(decision.events[0].data) == raw
    assert decode(encode(decision.state)) == decision.state
    assert fold([*events, *decision.events]) == decision.state
