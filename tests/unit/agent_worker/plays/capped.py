"""Turns under caps: those that are paid for, one that waits until another gives back, one that is refused."""

from __future__ import annotations

from shared.session.caps import Cap, Spender
from tests.builders import TENANT, USER, interrupting, turn
from tests.fakes.caps import Reservation
from tests.unit.agent_worker.outside import Outside

ELSEWHERE = (TENANT, "another")


def _cap(outside: Outside, limit: int) -> None:
    cap = Cap(tenant_id=TENANT, scope="user", who=USER, period="all", limit=limit)
    outside.caps.caps = (cap,)


async def capped(outside: Outside) -> None:
    """Three cents a turn, and enough for both."""
    _cap(outside, 5_000_000)
    outside.ask(turn("t1", "one"), turn("t2", "two"))


async def cap_reached(outside: Outside) -> None:
    """Nothing is left for the second turn."""
    _cap(outside, 20_000)
    outside.sent = ["one"]
    outside.ask(turn("t1", "one"), turn("t2", "two"))
    await outside.said("turn.refused")


async def cap_reserved(outside: Outside) -> None:
    """What is left is reserved by a turn of another session until that ends."""
    _cap(outside, 1_500_000)
    spender = Spender(tenant_id=TENANT, user_id=USER, session_id=ELSEWHERE[1])
    books = outside.store.books
    books.reservations[ELSEWHERE] = Reservation("t0", spender, 1_000_000)
    outside.ask(turn("t1", "one"))
    await outside.said("turn.retrying")
    del books.reservations[ELSEWHERE]


async def capped_interrupted(outside: Outside) -> None:
    """The turn that reserved is interrupted."""
    _cap(outside, 5_000_000)
    outside.ask(turn("t1", "hold on"))
    await outside.said("user.message")
    outside.ask(interrupting(5))


PLAYS = (capped, cap_reached, cap_reserved, capped_interrupted)
