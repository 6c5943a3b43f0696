"""Provider sessions that carry our mark, listed and archived for the sweep, in the lane of what can wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
from anthropic import AsyncAnthropic
from msgspec import Struct

from services.agent_worker.drivers.failures import WIRE_ERRORS, failure
from services.agent_worker.drivers.listing import sessions_since
from services.agent_worker.drivers.opening import close_session
from services.agent_worker.governor import whose
from services.agent_worker.governor.plan import BACKGROUND
from services.agent_worker.sweep import Marked
from shared.orphans import MARK, owner


class _Session(Struct, frozen=True):
    id: str
    created_at: str = ""
    status: str = ""
    archived_at: str | None = None
    metadata: dict[str, str] = {}


_session = msgspec.json.Decoder(_Session)


class ProviderLeftovers:
    """See Leftovers."""

    def __init__(self, client: AsyncAnthropic) -> None:
        self._client = client

    async def marked(self, since: datetime) -> AsyncIterator[list[Marked]]:
        """See Leftovers.marked."""
        pages = sessions_since(self._client, since)
        while True:
            try:
                with whose.in_lane(BACKGROUND):
                    page = await anext(pages)
            except StopAsyncIteration:
                return
            except WIRE_ERRORS as error:
                raise failure(error) from error
            yield [marked for raw in page if (marked := _marked(raw)) is not None]

    async def archive(self, provider_session_id: str, *, erase: bool) -> None:
        """See Leftovers.archive."""
        with whose.in_lane(BACKGROUND):
            await close_session(self._client, provider_session_id, erase=erase)


def _marked(raw: bytes) -> Marked | None:
    session = _session.decode(raw)
    key = owner(session.metadata.get(MARK, ""))
    if key is None or session.archived_at is not None or session.status == "terminated":
        return None
    return Marked(session.id, key, session.created_at)
