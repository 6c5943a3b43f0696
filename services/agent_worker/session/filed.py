"""One session's inputs in the inbox: those not yet taken in, and any by its id."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from services.agent_worker.ports import Store, Unread
from shared.session.inputs import Filed
from shared.session.key import SessionKey

# Of all that is kept, of one input, and what one takes beside its content; so many are looked at of those that come
# at once.
BYTES, LARGEST, BESIDE, MOST = 32 * 1024, 4 * 1024, 512, 64


class Recent:
    """Inputs of up to `LARGEST` bytes, up to `BYTES` in all. Mostly a turn is sent as soon as it was filed, or
    waits behind a few; a thousand in line, or one of a megabyte, are not kept for each of thousands of sessions."""

    def __init__(self) -> None:
        self._inputs: OrderedDict[str, tuple[Filed, int]] = OrderedDict()
        self._bytes = 0

    def add(self, filed: Filed) -> None:
        """Keep it, if it is small; the oldest go."""
        size = len(msgspec.json.encode(filed.request))
        if size > LARGEST or filed.input_id in self._inputs:
            return
        self._inputs[filed.input_id] = filed, size + BESIDE
        self._bytes += size + BESIDE
        while self._bytes > BYTES:
            _, (_, gone) = self._inputs.popitem(last=False)
            self._bytes -= gone

    def get(self, input_id: str) -> Filed | None:
        """The input; None when it has to be read."""
        found = self._inputs.get(input_id)
        return found[0] if found is not None else None


class FiledInputs:
    """Reads the inputs of the session `key`; what was taken in lately is not read again."""

    def __init__(self, store: Store, key: SessionKey) -> None:
        self._store = store
        self._key = key
        self._recent = Recent()

    async def unread(self, after: int) -> list[Unread]:
        """Inputs filed after inbox position `after`, in the order they were filed, as many as the store gives."""
        unread = await self._store.unread(self._key, after)
        self.taken([new.filed for new in unread])
        return unread

    def taken(self, filed: Sequence[Filed]) -> None:
        """These are in the inbox, and are what it has under their ids."""
        for each in filed[-MOST:]:
            self._recent.add(each)

    async def read(self, input_id: str) -> Filed:
        """An input taken in by this process or an earlier one. Raises KeyError when there is none."""
        return self._recent.get(input_id) or await self._store.read(self._key, input_id)
