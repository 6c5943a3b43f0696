"""What an Idempotency-Key stands for: the id that the first request under it had, here or at another gateway.

A key is claimed before anything is published, in one SQL statement that lets the first claim stand and returns it
to everyone; so of requests that race, at however many gateways, all go on with one id. What was returned once never
changes and is remembered here too. Claims that come while others are being written share the next statement.
"""

from __future__ import annotations

import asyncio

from services.gateway.ports import Claim, ReadModel
from services.gateway.register import MAX_KNOWN, Bounded
from shared.session.key import SessionKey

# Claims of one statement; those beyond wait for the next.
BATCH = 500


class Claims:
    """One event loop owns it."""

    def __init__(self, read_model: ReadModel, size: int = MAX_KNOWN) -> None:
        self._read_model = read_model
        self._known: Bounded[Claim, str] = Bounded(size)
        self._waiting: dict[Claim, tuple[str, asyncio.Future[str]]] = {}
        self._writing: asyncio.Task[None] | None = None

    async def stands_for(self, scope: SessionKey, key: str, wanted: str) -> str:
        """The id that `key` stands for in this session, `wanted` if this is the first request under it.

        Raises Transient when the database does not answer; the claim may stand all the same.
        """
        claim = (*scope, key)
        known = self._known.get(claim)
        if known is not None:
            return known
        if claim not in self._waiting:
            self._waiting[claim] = (wanted, asyncio.get_running_loop().create_future())
        _, future = self._waiting[claim]
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="claims")
        return await asyncio.shield(future)

    async def claimed(self, scope: SessionKey, key: str) -> str | None:
        """The id that `key` stands for in this session, None when nobody claimed it. Raises Transient."""
        claim = (*scope, key)
        return self._known.get(claim) or await self._read_model.claimed(claim)

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._write_some()
        finally:
            self._writing = None

    async def _write_some(self) -> None:
        batch = dict(list(self._waiting.items())[:BATCH])
        try:
            told = await self._read_model.claim({key: want for key, (want, _) in batch.items()})
        except Exception as error:  # Transient, or a fault that the requests are to answer for
            for claim, (_, future) in batch.items():
                del self._waiting[claim]
                future.set_exception(error)
                future.exception()  # whoever waited for it may be gone
            return
        for claim, (_, future) in batch.items():
            del self._waiting[claim]
            self._known.put(claim, told[claim])
            future.set_result(told[claim])
