"""A run: load and strikes together, then calm, then the facts from all sides."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from infra.local.addresses import addresses_of
from infra.local.keys import TENANT
from infra.local.settings import StackSettings
from tests.chaos.archive import Archive
from tests.chaos.books import read_money
from tests.chaos.calm import calm
from tests.chaos.evidence import Evidence, Published, in_turn
from tests.chaos.follower import Follower
from tests.chaos.gateway import Gateway
from tests.chaos.money import Money
from tests.chaos.options import Options
from tests.chaos.provider import Provider
from tests.chaos.raising import Operator
from tests.chaos.recovery import Recovery, counts_from_the_start, recovered
from tests.chaos.schedule import Schedule, Strike, Trouble
from tests.chaos.speakers import speakers
from tests.chaos.striking import hit, process_of
from tests.chaos.talker import Conversation, Talker
from tests.chaos.topic import published

_PATIENCE_S = 120.0  # of a client whose calls are not taken
_START_S = 60.0  # until a part that is being started has a process
_SILENCE_S = 75.0  # a stream on which nothing comes is given up after 70 s
_TELL_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a run showed. `quiet`: what had not come to rest when it was looked at. `uptakes`: seconds from
    the 202 of each turn until its session was heard to have it. `wrong_sums`: what the archive adds up wrongly.
    `money`: what all sides have of it, at rest."""

    evidence: list[Evidence]
    talks: list[Conversation]
    recoveries: list[Recovery]
    faults: int
    quiet: str
    uptakes: list[float] = field(default_factory=list)
    wrong_sums: list[str] = field(default_factory=list)
    money: Money = field(default_factory=Money)


class Run:
    """One run over a stack that is up. Use once."""

    def __init__(self, settings: StackSettings, key: str, options: Options) -> None:
        found = addresses_of(settings)
        assert found.anthropic_base_url is not None
        self._settings = settings
        self._kafka = found.kafka
        self._database = found.database_url
        self._provider_url = found.anthropic_base_url
        self._options = options
        self._say = options.say
        self._gateway = Gateway(found.gateway, key, _PATIENCE_S)
        self._provider = Provider(found.anthropic_base_url)
        self._archive = Archive(found.clickhouse_url, TENANT)
        self._operator = Operator(
            found.database_url, self._note, all_capped=bool(self._options.seed % 2)
        )
        self._speakers = speakers(options.sessions)
        self._followers = [Follower(self._gateway, one.session_id) for one in self._speakers]
        self._silent: dict[str, str] = {}
        self._silenced: dict[str, float] = {}
        self._misbehaving: list[tuple[float, float]] = []
        self._faults = 0
        self._pending = 0
        self._began = 0.0

    async def play(self, schedule: Schedule) -> Outcome:
        """Play the schedule under load; what was found afterwards. Raises ChaosFailed."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._gateway.close)
            stack.push_async_callback(self._provider.close)
            await self._operator.begin()
            following = [asyncio.create_task(follower.run()) for follower in self._followers]
            try:
                talks, recoveries = await self._under_load(schedule)
                self._say("calm: faults taken away, sessions archived, waiting for rest")
                quiet = await calm(
                    self._settings.folders,
                    self._gateway,
                    self._archive,
                    self._followers,
                    self._kafka,
                )
            finally:
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
            evidence = await self._evidence(talks)
            sums = await self._archive.wrong_sums()
            money = await self._money(evidence)
        uptakes = [took for follower in self._followers for took in follower.uptakes()]
        return Outcome(evidence, talks, recoveries, self._faults, quiet, uptakes, sums, money)

    async def _under_load(self, schedule: Schedule) -> tuple[list[Conversation], list[Recovery]]:
        self._began = time.monotonic()
        self._pending = len(schedule.strikes)
        talkers = [
            Talker(self._gateway, speaker, follower, self._options.seed, self._goes_on)
            for speaker, follower in zip(self._speakers, self._followers, strict=True)
        ]
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell(talkers))
            raising = group.create_task(self._operator.run())
            strikes = [group.create_task(self._strike(strike)) for strike in schedule.strikes]
            troubles = group.create_task(self._misbehave(schedule.troubles))
            talking = [group.create_task(talker.run()) for talker in talkers]
            await asyncio.wait([*strikes, troubles, *talking])
            telling.cancel()
            raising.cancel()
        recoveries = [self._with_trouble(*task.result()) for task in strikes]
        return [talker.talk for talker in talkers], recoveries

    def _goes_on(self) -> bool:
        """The load lasts until every strike is over, so that there is something to see it by."""
        return time.monotonic() - self._began < self._options.duration or self._pending > 0

    async def _at(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, self._began + seconds - time.monotonic()))

    async def _strike(self, strike: Strike) -> tuple[float, Recovery]:
        """When it began to count, and how long it took."""
        await self._at(strike.at)
        pid = await process_of(self._settings.folders, strike.part, _START_S)
        self._note(f"{strike}")
        hitting = asyncio.create_task(hit(pid, strike))
        try:
            await (asyncio.sleep(0) if counts_from_the_start(strike) else hitting)
            began = time.monotonic()
            recovery = await recovered(strike, self._followers, self._archive, self._excused)
            await hitting
        finally:
            hitting.cancel()
            await asyncio.gather(hitting, return_exceptions=True)
            self._pending -= 1
        took = "NOT" if recovery.seconds is None else f"after {recovery.seconds:.2f} s"
        self._note(f"{strike}: goes on {took}, {recovery.busy} sessions busy {recovery.slowest}")
        return began, recovery

    async def _misbehave(self, troubles: tuple[Trouble, ...]) -> None:
        for trouble in troubles:
            await self._at(trouble.at)
            began = time.monotonic()
            await self._provider.misbehave(trouble.rules)
            try:
                await self._at(trouble.at + trouble.seconds)
            finally:
                self._misbehaving.append((began, time.monotonic()))
                times = await self._provider.struck()
                await self._provider.misbehave(())
            self._faults += times
            await self._learn_silence()
            self._note(f"provider, {trouble.name}: {times} requests struck")

    async def _learn_silence(self) -> None:
        before, self._silent = self._silent, await self._provider.silenced()
        anew = {one for one, request in self._silent.items() if before.get(one) != request}
        for session, theirs in (await self._provider.by_session(TENANT)).items():
            if anew & set(theirs):
                self._silenced[session] = time.monotonic()

    def _excused(self, session_id: str) -> bool:
        """Its stream said nothing by request."""
        since = self._silenced.get(session_id)
        return since is not None and time.monotonic() - since < _SILENCE_S

    def _with_trouble(self, began: float, one: Recovery) -> Recovery:
        end = began + (one.seconds or _START_S)
        return replace(one, troubled=any(a < end and began < b for a, b in self._misbehaving))

    async def _tell(self, talkers: list[Talker]) -> None:
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            accepted = sum(len(talker.talk.accepted) for talker in talkers)
            ended = sum(len(follower.ended) for follower in self._followers)
            self._note(f"{accepted} turns accepted, {ended} ended")

    def _note(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._began:7.1f} s  {text}")

    async def _evidence(self, talks: list[Conversation]) -> list[Evidence]:
        rows = await self._archive.rows() or {}
        log = await published(self._kafka)
        behind = await self._provider.by_session(TENANT)
        return [
            Evidence(
                session_id=talk.session_id,
                accepted=talk.accepted,
                at_provider=in_turn(
                    [await self._provider.log(one) for one in behind.get(talk.session_id, [])]
                ),
                rows=rows.get(talk.session_id, []),
                published=log.get(talk.session_id, Published()),
                heard_wrong=[*follower.wrong, *(f"{one} is the user's too" for one in talk.others)],
                capped=speaker.capped,
            )
            for talk, speaker, follower in zip(talks, self._speakers, self._followers, strict=True)
        ]

    async def _money(self, evidence: list[Evidence]) -> Money:
        return await read_money(
            self._database,
            self._archive,
            self._gateway,
            self._provider_url,
            [one for found in evidence for one in found.at_provider],
            [found.session_id for found in evidence],
            (self._operator.caps, self._operator.looked),
        )
