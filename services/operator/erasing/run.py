"""Have sessions erased, wait until they are, and look again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from services.operator.erasing.archive import detached_parts
from services.operator.erasing.certificate import Erased
from services.operator.erasing.looks import Stores
from services.operator.inputs import asking
from shared.bus.envelope import Envelope
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.session.inputs import EraseRequested
from shared.session.key import SessionKey

SOURCE = "turnstile/operator"
POLL_S = 1.0


def request(about: Erased) -> tuple[Envelope, bytes]:
    """The input that asks for the erasure. Each has an id of its own: asked again, what failed is begun anew."""
    about.asked_at = rfc3339(utcnow())
    envelope = Envelope(
        id=f"erase:{about.tenant}:{about.asked_at}",
        source=SOURCE,
        type="session.erase_requested",
        time=about.asked_at,
        subject=about.session,
    )
    asked = EraseRequested(tenant_id=about.tenant, session_id=about.session, at=about.asked_at)
    return envelope, msgspec.json.encode(asked)


async def ask(stores: Stores, sessions: Sequence[Erased]) -> None:
    """Publish the requests; those of which nothing is left are not asked for again. Raises KafkaError."""
    async with asking(stores.bootstrap, stores.options) as publish:
        for about in sessions:
            if about.left:
                await publish(request(about))


async def wait(
    stores: Stores, sessions: Sequence[Erased], seconds: float, tell: Callable[[str], None]
) -> None:
    """Wait until nothing is left in SQL and ClickHouse, for `seconds` at most; `tell` is called with the progress.
    `left` of each session says what there was at the last look."""
    ends, said = time.monotonic() + seconds, ""
    pending = list(sessions)
    while pending:
        for about in pending:
            about.left = await stores.left(about)
        pending = [about for about in pending if about.left]
        news = f"{len(sessions) - len(pending)} of {len(sessions)} erased"
        if pending:
            news += f"; {pending[0].session} waits for {pending[0].left[0]}"
        if news != said:
            tell(news)
            said = news
        if time.monotonic() > ends or not pending:
            return
        await asyncio.sleep(POLL_S)


async def look_again(stores: Stores, sessions: Sequence[Erased]) -> None:
    """Look into every store once more and note in `left` what is there. Provider sessions that no row named, left
    by a crash, are deleted here; and of a session that is gone the dead letters are marked, where the recorder's
    mark is not there (any more)."""
    for about in sessions:
        about.left = await stores.left(about)
    await _delete_living(stores, sessions)
    unmarked = await _unmarked(stores, sessions)
    detached = await asyncio.to_thread(detached_parts, stores.archive)
    for about in sessions:
        if about.key in unmarked:
            about.left.append("dead letters: they are not marked as erased")
        about.left += detached


async def _delete_living(stores: Stores, sessions: Sequence[Erased]) -> None:
    living, away = await stores.living(sessions)
    if not away:
        for _, session in living:
            await stores.provider.delete(session)
        living, away = await stores.living(sessions)
    for key, session in living:
        about = next(one for one in sessions if one.key == key)
        about.left.append(f"provider: {session} is there")
    if away:
        for about in sessions:
            about.left.append(f"provider: nobody could look there: {away}")


async def _unmarked(stores: Stores, sessions: Sequence[Erased]) -> set[SessionKey]:
    """The sessions whose dead letters are not marked, once those are of which nothing else is left."""
    keys = [about.key for about in sessions]
    unmarked = await stores.unmarked(keys)
    gone = [about.key for about in sessions if about.key in unmarked and not about.left]
    if not gone:
        return unmarked
    await stores.mark(gone)
    return await stores.unmarked(keys)
