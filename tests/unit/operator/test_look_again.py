"""After an erasure every store is looked at once more, and what a crash left behind is put right."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest

from services.operator.erasing.certificate import Erased
from services.operator.erasing.run import look_again
from shared.session.key import SessionKey

pytestmark = pytest.mark.unit
UNMARKED = "dead letters: they are not marked as erased"


class Places:
    """Stores that hold what they are told to; `deaf`: a mark does not help."""

    def __init__(
        self, left: dict[str, list[str]], marked: Collection[SessionKey] = (), deaf: bool = False
    ):
        self.rows = left
        self.marked = set(marked)
        self.marks: list[SessionKey] = []
        self.deaf = deaf
        self.away = ""
        self.archive: Any = SimpleNamespace(query=lambda text: [])

    async def left(self, about: Erased) -> list[str]:
        return list(self.rows.get(about.session, []))

    async def living(
        self, sessions: Collection[Erased]
    ) -> tuple[list[tuple[SessionKey, str]], str]:
        return [], self.away

    async def unmarked(self, keys: Collection[SessionKey]) -> set[SessionKey]:
        return set(keys) - self.marked

    async def mark(self, keys: Collection[SessionKey]) -> None:
        self.marks += keys
        self.marked |= set() if self.deaf else set(keys)


async def looked_at(places: Any, *names: str) -> dict[str, list[str]]:
    sessions = [Erased("acme", name) for name in names]
    await look_again(places, sessions)
    return {about.session: about.left for about in sessions}


async def test_a_mark_that_is_missing_is_made() -> None:
    """An older recorder that died after its tombstone never made it, and a mark's retention ends."""
    places = Places({}, marked=[("acme", "s1")])
    assert await looked_at(places, "s1", "s2") == {"s1": [], "s2": []}
    assert places.marks == [("acme", "s2")]


async def test_a_session_that_is_still_there_is_not_marked() -> None:
    places = Places({"s1": ["worker_inbox: 3 inputs"]})
    assert await looked_at(places, "s1") == {"s1": ["worker_inbox: 3 inputs", UNMARKED]}
    assert places.marks == []


async def test_a_mark_that_cannot_be_seen_is_not_taken_for_one() -> None:
    assert await looked_at(Places({}, deaf=True), "s1") == {"s1": [UNMARKED]}


async def test_nothing_is_gone_from_a_provider_that_is_away() -> None:
    places = Places({})
    places.away = "the provider answered 503"
    found = await looked_at(places, "s1", "s2")
    said = "provider: nobody could look there: the provider answered 503"
    assert found == {"s1": [said, UNMARKED], "s2": [said, UNMARKED]}
