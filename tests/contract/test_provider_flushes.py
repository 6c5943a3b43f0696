"""What the provider dropped from its queue is an event all the same, and is sent again by the next attempt."""

from __future__ import annotations

import pytest

from tests.contract.provider_talk import Talk, stop_reason
from tests.contract.provider_worlds import WireWorld

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("number", range(6))
async def test_a_dropped_message_is_recorded_whether_it_was_shown_or_not(
    wire: WireWorld, number: int
) -> None:
    """The stream shows one in four before it is taken up; of the others only the list tells."""
    talk = Talk(wire)
    await talk.open()
    text = f"poor {number} [[script: exhausted unprocessed=1 times=1]]"
    async with talk.watching(fresh=True):
        assert stop_reason(await talk.turn(text)) == "retries_exhausted"
        assert [event.type for event in talk.heard].count("user.message") == 1
        assert talk.heard[-1].type == "session.status_idle"
        # The next attempt looks first: what was dropped is not the message it is about to send.
        await talk.send(text, look=True)
        assert await talk.sent() == [text, text]
        assert stop_reason(await talk.hear()) == "end_turn"
    log = await wire.log(talk.session)
    assert sorted(event.id for event in talk.heard) == sorted(log.ids())
