"""`python -m tests.contract.stores.writer URL PREFIX`: appends to eight sessions at once for ever, and prints the
session and version of each append that was acknowledged. Ends when the store is away.
"""

from __future__ import annotations

import asyncio
import sys

from shared.errors import Transient
from turnstile.stores import SessionStore, open_store

SESSIONS = 8
EVENTS = 3


async def main(url: str, prefix: str) -> None:
    async with open_store(url) as store:
        await asyncio.gather(*(write(store, f"{prefix}-{n}") for n in range(SESSIONS)))


async def write(store: SessionStore, session: str) -> None:
    version = 0
    while True:
        events = [{"n": version + n, "text": "x" * 200} for n in range(1, EVENTS + 1)]
        state = {"n": version + EVENTS}
        try:
            version = await store.append(session, events, expected_version=version, state=state)
        except Transient:
            return
        print(session, version, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
