"""A worker's place in its group: left and joined again after what passes, given up for what does not."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, UnknownError

from services.agent_worker.adapters.inputs import KafkaInputConsumer
from shared.stream import Member
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit
FAILED_INSIDE = KafkaError(repr(UnknownError()))


class FakeMember:
    """A member that has what it was given: records, or what reading stops for."""

    def __init__(self, found: Sequence[Any] | Exception) -> None:
        self.found = found
        self.stopped = False
        self.owes = False

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped = True

    async def batch(self, _timeout: float) -> Sequence[Any]:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def record(offset: int) -> Any:
    place = {"topic": "turnstile.inputs.v1", "partition": 0, "offset": offset}
    return SimpleNamespace(
        key=b"s", value=b"{}", headers=(), timestamp=0, timestamp_type=0, **place
    )


def consumer(*members: FakeMember) -> KafkaInputConsumer:
    left = iter(members)
    return KafkaInputConsumer(lambda: cast("Member", next(left)))


@pytest.mark.parametrize("error", [UnknownError(), FAILED_INSIDE])
def test_a_broker_that_failed_inside_does_not_end_the_worker(error: KafkaError) -> None:
    @virtual
    async def play() -> None:
        first, second = FakeMember(error), FakeMember([record(7)])
        (found,) = await consumer(first, second).batch()
        assert found.source == "turnstile.inputs.v1/0/7"
        assert (first.stopped, second.stopped) == (True, False)

    play()


@virtual
async def test_what_does_not_pass_is_raised() -> None:
    with pytest.raises(GroupAuthorizationFailedError):
        await consumer(FakeMember(GroupAuthorizationFailedError("turnstile.intake"))).batch()
