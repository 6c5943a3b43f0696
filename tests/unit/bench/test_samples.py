"""The events that leg `record` feeds in: as many as asked for, and such as the worker would write."""

import json
import random
from collections import defaultdict
from datetime import UTC, datetime
from itertools import islice, pairwise

import msgspec
import pytest

from shared.bus import envelope as envelopes
from shared.moment import parse
from shared.session.events import DATA, Event, read_event
from tests.bench.kafka_log import Record
from tests.bench.samples import EVENTS, TURNS, records, renamed

pytestmark = pytest.mark.unit

BEGAN = datetime(2026, 11, 2, 8, tzinfo=UTC)
MANY = 2 * TURNS * EVENTS + 7


def made(count: int, tenant: str = "bench") -> list[Record]:
    return list(records(count, tenant, BEGAN, random.Random(1)))


def events() -> list[Event]:
    return [read_event(value) for _, value, _ in made(MANY)]


@pytest.mark.parametrize("count", [0, 1, TURNS * EVENTS, MANY])
def test_there_are_as_many_samples_as_asked_for(count: int) -> None:
    assert len(made(count)) == count


def test_the_same_chance_gives_the_same_bytes() -> None:
    assert made(MANY) == made(MANY)


def test_every_session_counts_from_one_without_gaps_and_forward_in_time() -> None:
    sessions = defaultdict(list)
    for event in events():
        sessions[event.session_id].append(event)
    assert len(sessions) == 3
    for own in sessions.values():
        assert [event.seq for event in own] == list(range(1, len(own) + 1))
        assert all(parse(one.at) < parse(next_.at) for one, next_ in pairwise(own))
        assert {event.tenant_id for event in own} == {"bench"}
    assert len({event.event_id for event in events()}) == MANY


def test_key_and_headers_agree_with_the_event() -> None:
    for key, value, headers in islice(made(MANY), EVENTS):
        event, envelope = read_event(value), envelopes.read(headers)
        assert key.decode() == event.session_id == envelope.subject
        assert (envelope.id, envelope.type) == (event.event_id, event.type)
        assert envelope.traceparent is not None
        assert envelope.traceparent.split("-")[1] == event.trace_id


def test_a_turn_runs_from_accepted_to_completed() -> None:
    kinds = [event.type for event in events()[:EVENTS]]
    assert (kinds[0], kinds[-1], len(kinds)) == ("turn.accepted", "turn.completed", EVENTS)
    assert "agent.message" in kinds


def test_data_is_ours_or_shaped_like_the_provider_s() -> None:
    for event in events()[:EVENTS]:
        data = json.loads(bytes(event.data))
        if event.type in DATA:
            msgspec.json.decode(event.data, type=DATA[event.type])
        else:
            assert (data["type"], data["id"]) == (event.type, event.event_id)
            parse(data["processed_at"])


def test_samples_are_of_a_real_size() -> None:
    sizes = [len(value) for _, value, _ in made(MANY)]
    assert 400 < sum(sizes) / len(sizes) < 1_500


def test_renamed_records_are_those_of_the_other_tenant() -> None:
    assert list(renamed(made(MANY, "a-tenant"), "a-tenant", "another")) == made(MANY, "another")
