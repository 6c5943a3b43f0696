"""What was taken in lately is not read again, and what is kept of it is bounded."""

from __future__ import annotations

import pytest

from services.agent_worker.session.filed import BYTES, LARGEST, FiledInputs
from shared.session.inputs import Filed
from shared.session.key import SessionKey
from tests.builders import SESSION, TENANT, turn

pytestmark = pytest.mark.unit
KEY: SessionKey = (TENANT, SESSION)


class Inbox:
    """Notes what is read of it; `inputs` are all it has."""

    def __init__(self, inputs: list[Filed]) -> None:
        self.read_ids = list[str]()
        self._inputs = {each.input_id: each for each in inputs}

    async def read(self, key: SessionKey, input_id: str) -> Filed:
        self.read_ids.append(input_id)
        return self._inputs[input_id]


async def read_of(inputs: list[Filed]) -> list[str]:
    """The ids that had to be read, when all are taken in together and then asked for in their order."""
    inbox = Inbox(inputs)
    filed = FiledInputs(inbox, KEY)  # type: ignore[arg-type]
    filed.taken(inputs)
    for each in inputs:
        assert await filed.read(each.input_id) == each
    return inbox.read_ids


async def test_a_line_of_short_turns_is_read_once() -> None:
    assert await read_of([turn(f"t{n}", "What next?") for n in range(20)]) == []


async def test_what_is_kept_has_a_bound() -> None:
    long = [turn(f"t{n}", "x" * (LARGEST // 2)) for n in range(64)]
    assert len(await read_of(long)) >= 64 - 2 * BYTES // LARGEST


async def test_a_large_input_is_read_again() -> None:
    assert len(await read_of([turn("t1", "x" * LARGEST)])) == 1
