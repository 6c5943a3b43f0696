"""Plays one conversation while everything breaks; what was accepted is kept in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from tests.chaos.follower import Follower
from tests.chaos.gateway import Gateway, Json
from tests.chaos.moves import INTERRUPTED, REFUSED, Move, Said, move
from tests.chaos.speakers import Speaker

ANSWER = "Parcel 4711: handed over at number 12."
_MOVE_S = 150.0  # a silent stream is believed to live for 70 s


@dataclass(slots=True)
class Conversation:
    """One session as its client knows it. `accepted`: turns that were answered with 202, in order.
    `resent`: calls that had to be made again; `stuck`: turns that did not end while the client waited; `others`:
    other sessions that were answered for the user's own."""

    session_id: str
    accepted: list[Said] = field(default_factory=list)
    resent: int = 0
    stuck: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


class Talker:
    """Plays one conversation. `goes_on` answers whether another move is to be made."""

    def __init__(
        self,
        gateway: Gateway,
        speaker: Speaker,
        follower: Follower,
        seed: int,
        goes_on: Callable[[], bool],
    ) -> None:
        self.talk = Conversation(follower.session_id)
        self._base = f"/v1/sessions/{follower.session_id}"
        self._gateway = gateway
        self._speaker = speaker
        self._follower = follower
        self._seed = seed
        self._goes_on = goes_on
        self._answered: set[str] = set()
        # An interrupt that had to be sent again may have been taken twice, and the second one late.
        self._stray_interrupts = False

    async def run(self) -> None:
        """Open the session and play moves until it is not to go on. Raises ChaosFailed."""
        await self._open()
        number = 0
        while self._goes_on():
            one = move(self._seed, self.talk.session_id, number)
            await self._play(one)
            number += 1
            dice = Random(f"pause {self._seed} {self.talk.session_id} {number}")
            refused = self._speaker.capped and self._was_refused(one)
            await asyncio.sleep(self._speaker.pause(dice, refused=bool(refused)))
            if self._speaker.reuse:
                await self._open()

    async def _open(self) -> None:
        tries, session = await self._gateway.open(self._speaker.opening())
        self.talk.resent += tries - 1
        if session != self.talk.session_id:
            self.talk.others.append(session)

    def _was_refused(self, one: Move) -> bool:
        return any(self._follower.ended.get(said.turn_id) == REFUSED for said in one.turns)

    async def _play(self, one: Move) -> None:
        for said in one.turns:
            body = {"content": said.text, "turn_id": said.turn_id, "on_busy": said.on_busy}
            await self._post(f"{self._base}/turns", body)
            self._follower.said[said.turn_id] = time.monotonic()
            self.talk.accepted.append(self._as_it_may_end(said))
        if one.interrupt and await self._post(f"{self._base}/interrupt", {}) > 1:
            self._stray_interrupts = True
        ids = {said.turn_id for said in one.turns}
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._answer())
            await self._follower.until(lambda: ids <= self._follower.ended.keys(), _MOVE_S)
            answering.cancel()
        self.talk.stuck += sorted(ids - self._follower.ended.keys())

    def _as_it_may_end(self, said: Said) -> Said:
        return replace(said, ends=said.ends | {INTERRUPTED}) if self._stray_interrupts else said

    async def _answer(self) -> None:
        """Allow what asks for permission, answer what is ours to run, until cancelled."""
        while True:
            await self._follower.until(lambda: bool(self._asked()), _MOVE_S)
            for ident in self._asked():
                self._answered.add(ident)
                if self._follower.pending.get(ident, {}).get("kind") == "confirmation":
                    body = {"tool_use_id": ident, "result": "allow"}
                    await self._post(f"{self._base}/tool_confirmations", body)
                else:
                    answer = {"custom_tool_use_id": ident, "content": ANSWER}
                    await self._post(f"{self._base}/tool_results", answer)

    def _asked(self) -> list[str]:
        return [ident for ident in self._follower.pending if ident not in self._answered]

    async def _post(self, path: str, body: Json) -> int:
        tries = await self._gateway.post(path, body)
        self.talk.resent += tries - 1
        return tries
