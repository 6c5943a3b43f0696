"""Where a list stops being known, when only the newest recorded ids are remembered.

The newest ids are those recorded last, which is not quite the list's order: what the primary thread shows of a
child is recorded before its neighbours in the child's list, and late events after theirs. So one known event says
little, a run of them all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from shared.session import provider

# List and stream were seen to differ in order by a few places only. Less than the tail of ids that a state keeps,
# and than a glance at the primary list.
KNOWN_RUN = 32


async def unrecorded(
    pages: AsyncIterator[list[bytes]], knows: Callable[[str], bool]
) -> list[bytes]:
    """Of a list that is oldest first: what is not known and comes after the last run of known events, or after the
    first known event where there is no run. Nothing known: nothing, since it is all older than what is."""
    found, run, met = list[bytes](), 0, False
    async for page in pages:
        for raw in page:
            if knows(provider.head(raw).id):
                run, met = run + 1, True
                if run >= KNOWN_RUN:
                    found.clear()
            else:
                run = 0
                found += [raw] if met else []
    return found
