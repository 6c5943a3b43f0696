"""A session's events from any seq on, without gap or repeat, wherever they are kept.

Three places hold the events: ClickHouse (all, some seconds late), the ring (the newest, in memory) and
the log (days, slow to search). `read` asks them in the order of their cost and yields seq after + 1,
after + 2, … and nothing else: an event that none of them has stops it with `Hole`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from services.gateway.ports import Entry, EventArchive, EventLog, ReadModel, Stretch
from services.gateway.streams.live import Live
from shared import logs, telemetry
from shared.clock import utcnow
from shared.errors import Rejected, Transient
from shared.moment import parse
from shared.session.key import SessionKey

# A page of the archive is bounded in bytes too; one of a few thousand rows costs hardly more than one of a hundred.
PAGE = 4_000
# The recorder and the projectors are never both further behind than this: further back the log is not searched for
# an event that neither the archive nor the read model has.
LOOK_BACK = timedelta(minutes=15)
LOOK_SECONDS = 5.0
SCAN_BYTES = 4 * 1024 * 1024
# Events carry the provider's times, the log ours: clocks may differ by so much.
CLOCK_SLACK = timedelta(minutes=2)
# Carries the time of whoever asked for the turn.
AS_SAID = "turn.accepted"
LAST = 8
EPOCH = datetime.fromtimestamp(0, UTC)
_T = TypeVar("_T")
_log = logs.get("gateway.history")


class Hole(Transient):
    """The event after `seq` exists but none of the three places has it now. `gone`: all three answered."""

    def __init__(self, key: SessionKey, seq: int, away: Transient | None) -> None:
        why = str(away) if away else "it is on its way to the archive"
        super().__init__(
            "history_unavailable",
            f"event {seq + 1} of session {key[1]} cannot be read now ({why}): try again",
            retry_after=2,
        )
        self.gone = away is None


@dataclass(frozen=True, slots=True)
class History:
    """The read side of events."""

    archive: EventArchive
    log: EventLog
    live: Live
    read_model: ReadModel

    async def newest(self, key: SessionKey) -> int:
        """The highest seq this gateway has heard of."""
        page = await self.read_model.session(key)
        return max(page.view.last_seq if page else 0, self.live.ring.newest(key))

    async def confirmed(self, key: SessionKey, seq: int) -> int:
        """The highest seq there is, for a client that says it has read up to `seq`.

        Raises Rejected (`cursor_ahead`) when there is no event `seq`, Transient when that can't be found out.
        """
        known = await self.reach(key, seq)
        if seq > known:
            raise Rejected(
                "cursor_ahead",
                f"event {seq} does not exist: the newest is {known}; read from `after={known}`",
                extra={"last_seq": known},
            )
        return known

    async def reach(self, key: SessionKey, seq: int) -> int:
        """The highest seq there is. When this gateway has not heard of `seq`, archive and log are asked too:
        another may be ahead. Raises Transient when that can't be found out."""
        newest = await self.newest(key)
        if seq <= newest:
            return newest
        page = await self.archive.page(key, seq - 1, 1)
        if page and page[0].seq == seq:
            return seq
        walk, known = _Walk(newest), newest
        since = max(await self._since(key, walk), utcnow() - LOOK_BACK)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                async for entry in self.log.scan(key, since, newest):
                    known = max(known, entry.seq)
        except TimeoutError as error:
            slow = Transient("kafka_unavailable", "the log could not be searched in time")
            raise Hole(key, newest, slow) from error
        return known

    async def read(
        self, key: SessionKey, after: int, until: int, *, ahead: bool = True
    ) -> AsyncGenerator[Entry, None]:
        """Events `after` + 1 … `until`, in order. Raises Hole.

        `ahead`: the archive's next page is asked for while one is given on; not for those who may stop early.
        """
        walk = _Walk(after)
        with _spanned(walk):
            pages = self._archived(key, walk, until, ahead)
            async for entry in self._joined(key, walk, until, pages):
                yield entry

    async def stretches(
        self, key: SessionKey, after: int, until: int
    ) -> AsyncGenerator[Entry | Stretch, None]:
        """The same for a stream: what the archive has comes many events at a time. Raises Hole."""
        walk = _Walk(after)
        with _spanned(walk):
            async for some in self._joined(key, walk, until, self._ready(key, walk, until)):
                yield some

    async def _joined(
        self, key: SessionKey, walk: _Walk, until: int, archived: AsyncIterator[_T]
    ) -> AsyncIterator[Entry | _T]:
        away: Transient | None = None
        async for entry in _inside(walk, until, self._ring(key, walk.last)):
            yield entry
        if walk.last < until:
            try:
                async for some in archived:
                    yield some
            except Transient as error:
                away = error
                _log.warning("history_without_archive", detail=str(error))
        async for entry in _inside(walk, until, self._ring(key, walk.last)):
            yield entry
        while walk.last < until and (found := await self._logged(key, walk, until)):
            for entry in found:
                yield entry
        if walk.last < until:
            walk.hole = "history_unavailable"
            raise Hole(key, walk.last, away)

    async def left(self, key: SessionKey, after: int, until: int) -> AsyncIterator[Entry]:
        """What there is of events `after` + 1 … `until` of which some are gone (retention), in order, without the
        ring. Raises Transient."""
        walk, place = _Walk(after), after
        while place < until:
            page = await self.archive.page(key, place, min(PAGE, until - place))
            for entry in page:
                walk.last, walk.at = entry.seq, entry.at
                yield entry
            place = page[-1].seq if page else place + PAGE
        last = walk.last
        async for found in self.log.scan(key, await self._since(key, walk), last):
            if last < found.seq <= until:
                last = found.seq
                yield found

    async def _archived(
        self, key: SessionKey, walk: _Walk, until: int, ahead: bool
    ) -> AsyncIterator[Entry]:
        """Page by page; `ahead`: the next is asked for while one is given on, so that neither side waits."""
        coming = self._page_after(key, walk.last, until)
        try:
            while coming is not None:
                before, walk.held = walk.last, False
                page = await coming
                coming = self._page_after(key, page[-1].seq, until) if page and ahead else None
                for found in page:
                    if entry := walk.take(found, until):
                        yield entry
                if walk.last == before or walk.held:
                    return
                if not ahead:
                    coming = self._page_after(key, walk.last, until)
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _ready(
        self, key: SessionKey, walk: _Walk, until: int
    ) -> AsyncIterator[Entry | Stretch]:
        """As the archive writes them; pages go on from what it does not write."""
        async for stretch in self.archive.stretches(key, walk.last, until):
            walk.went(stretch)
            yield stretch
        async for entry in self._archived(key, walk, until, ahead=False):
            yield entry

    async def _logged(self, key: SessionKey, walk: _Walk, until: int) -> list[Entry]:
        """The next events that the log has, SCAN_BYTES of them at most: a scan has ended before its events are
        given on, or a client that reads slowly would keep others from the log."""
        entries, size = list[Entry](), 0
        scan = self.log.scan(key, await self._since(key, walk), walk.last)
        async with contextlib.aclosing(scan):
            async for found in scan:
                if taken := walk.take(found, until):
                    entries.append(taken)
                    size += len(taken.value)
                    if size >= SCAN_BYTES:
                        break
        return entries

    def _page_after(
        self, key: SessionKey, seq: int, until: int
    ) -> asyncio.Task[Sequence[Entry]] | None:
        """A page on its way; None when `until` is reached."""
        limit = min(PAGE, until - seq)
        return asyncio.create_task(self.archive.page(key, seq, limit)) if limit > 0 else None

    def _ring(self, key: SessionKey, after: int) -> Iterable[Entry]:
        entries = self.live.ring.after(key, after)
        return entries if entries and entries[0].seq == after + 1 else ()

    async def _since(self, key: SessionKey, walk: _Walk) -> datetime:
        """Since when the log must be searched: the time of the last event that has one by a clock near ours, or the
        session's beginning."""
        at = walk.at or await self._archived_at(key, walk.last)
        if at is not None:
            return parse(at) - CLOCK_SLACK
        session = await self.read_model.session(key)
        return parse(session.view.created_at) - CLOCK_SLACK if session else EPOCH

    async def _archived_at(self, key: SessionKey, seq: int) -> str | None:
        """The time of the newest of the LAST events up to `seq` that has one by a clock near ours, if the archive
        answers and has them."""
        first = max(seq - LAST, 0)
        try:
            page = await self.archive.page(key, first, seq - first) if seq else ()
        except Transient:
            return None
        return next((entry.at for entry in reversed(page) if entry.type != AS_SAID), None)


@contextlib.contextmanager
def _spanned(walk: _Walk) -> Iterator[None]:
    """A span around a walk. It is never current: whoever iterates has a context of its own."""
    after = walk.last
    reading = telemetry.begin("history.read", parent="", start=utcnow())
    try:
        yield
    finally:
        read = {"turnstile.after": after, "turnstile.events": walk.last - after}
        reading.end(utcnow(), attributes=read, error=walk.hole)


class _Walk:
    """Passes events on in strictly rising order of seq: repeats are dropped, and at a gap it stops."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.at: str | None = None
        self.held = False
        self.hole: str | None = None

    def take(self, entry: Entry, until: int) -> Entry | None:
        """The entry, when it is the next one up to `until`; None for a repeat, or beyond a gap, which sets
        `held`."""
        if entry.seq <= self.last or entry.seq > until:
            return None
        if entry.seq != self.last + 1:
            self.held = True
            return None
        self.last = entry.seq
        if entry.type != AS_SAID:
            self.at = entry.at
        return entry

    def went(self, stretch: Stretch) -> None:
        """Past a stretch that begins with the next one."""
        self.last = stretch.seq
        self.at = stretch.at if stretch.type != AS_SAID else None


async def _inside(walk: _Walk, until: int, entries: Iterable[Entry]) -> AsyncIterator[Entry]:
    for found in entries:
        if entry := walk.take(found, until):
            yield entry
