"""Token deltas as they are published: of each message a beginning, without holes, whatever happens to a delta."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from infra.simulator.play.stage import halved
from services.agent_worker.adapters import previews as previews_module
from services.agent_worker.adapters.previews import Previews
from tests.builders import BEGINNING

pytestmark = pytest.mark.unit
KEY = ("acme", "s1")
TEXT = "où est-il? 🧭👩‍👩‍👧 là 🎈"


class Producer:
    """Takes records; `refuses` counts down to the one that fails."""

    def __init__(self, refuses: int = -1) -> None:
        self.values: list[dict[str, Any]] = []
        self._refuses = refuses

    async def send(self, topic: str, *, key: bytes, value: bytes, headers: object) -> None:
        self._refuses -= 1
        if not self._refuses:
            raise RuntimeError("no room")
        self.values.append(msgspec.json.decode(value))

    def of(self, message: str) -> list[dict[str, Any]]:
        datas = ((v, v["data"]) for v in self.values)
        return [v for v, d in datas if message in (d.get("event_id"), d.get("event", {}).get("id"))]

    def text(self, message: str = "m") -> str:
        """What is shown of a message; its previews must be numbered without gaps from its start."""
        found = self.of(message)
        assert [value["number"] for value in found] == list(range(len(found)))
        assert [value["type"] for value in found[:1]] == ["event_start"]
        return "".join(value["data"]["delta"]["content"]["text"] for value in found[1:])


def start(message: str = "m") -> bytes:
    return json.dumps(
        {"type": "event_start", "event": {"type": "agent.message", "id": message}}
    ).encode()


def delta(text: str, message: str = "m", index: int = 0) -> bytes:
    """As the provider may write it: half a character as an escape of its own."""
    content = {"type": "text", "text": text}
    body = {"type": "content_delta", "index": index, "content": content}
    return json.dumps({"type": "event_delta", "event_id": message, "delta": body}).encode()


async def published(producer: Producer, *raws: bytes, together: bool = False) -> None:
    """Add these and publish them, each by itself or all at once."""
    shown = Previews(producer, lambda: BEGINNING)  # type: ignore[arg-type]
    running = asyncio.create_task(shown.run())
    for raw in raws:
        shown.add(KEY, "t1", raw)
        if not together:
            await turns_of_the_loop()
    await turns_of_the_loop()
    running.cancel()


async def turns_of_the_loop() -> None:
    """As many as it takes to publish what waits."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews_module, "COALESCE_SECONDS", 0)


@pytest.mark.parametrize("together", [True, False])
async def test_a_character_cut_over_two_deltas_comes_whole(together: bool) -> None:
    pieces = halved(TEXT)
    assert any("\ud83d" in piece for piece in pieces), "cut in the middle"
    producer = Producer()
    await published(producer, start(), *map(delta, pieces), together=together)
    assert producer.text() == TEXT


async def test_half_a_character_waits_for_its_other_half() -> None:
    producer = Producer()
    await published(producer, start(), delta("a\ud83d"))
    assert producer.text() == "a"


@pytest.mark.parametrize(
    "broken",
    [
        [delta("b\ud83d"), delta("c")],
        [delta("b\ude00c")],
        [delta("b\ud83d"), delta("\ude00", index=1)],
        [delta("b"), b"{no json"],
        [
            delta("b"),
            b'{"type":"event_delta","event_id":"m","delta":{"content":{"text":"\xf0\x9f"}}}',
        ],
        [delta("b"), start()],
    ],
)
async def test_nothing_is_shown_behind_what_cannot_be_shown(broken: list[bytes]) -> None:
    producer = Producer()
    await published(producer, start(), delta("a"), *broken, delta("never"))
    assert producer.text() == "ab"


async def test_a_message_whose_start_was_not_seen_is_not_shown() -> None:
    producer = Producer()
    await published(producer, delta("x"), start("n"), delta("y", "n"))
    assert (producer.of("m"), producer.text("n")) == ([], "y")


async def test_what_is_dropped_under_pressure_takes_the_rest_of_its_message_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(previews_module, "MAX_WAITING", 3)
    producer = Producer()
    raws = [start(), delta("a"), start("n"), delta("b", "n"), delta("c"), delta("d", "n")]
    await published(producer, *raws, together=True)
    assert (producer.text("m"), producer.text("n")) == ("ac", "")


async def test_after_a_record_that_was_not_taken_there_is_no_next_of_its_message() -> None:
    producer = Producer(refuses=3)
    raws = [start(), delta("a"), delta("b"), delta("c"), start("n"), delta("d", "n")]
    await published(producer, *raws)
    assert (producer.text("m"), producer.text("n")) == ("a", "d")


async def test_what_is_known_of_messages_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews_module, "MAX_MESSAGES", 2)
    producer = Producer()
    starts = [start(), start("n"), start("o")]
    await published(producer, *starts, delta("x"), delta("y", "n"), delta("z", "o"))
    assert [producer.text(message) for message in "mno"] == ["", "y", "z"]
