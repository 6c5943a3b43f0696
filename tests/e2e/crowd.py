"""A dozen conversations at once while a part of the stack dies, and what must be true of them after."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from infra.clients.gateway import Json
from infra.simulator import reply_to
from tests.e2e.api import Api
from tests.e2e.archive import Archive, Row
from tests.e2e.conversing import ANSWER
from tests.e2e.provider import Provider
from tests.e2e.recorded import assert_recorded, assert_sent_once, turn_rows
from tests.e2e.tenants import ACME
from tests.e2e.waiting import eventually

# Each conversation's scripts, turn by turn. The first turn of these waits to be released …
HELD = (
    ("reply hold=1", "reply", "tools"),
    ("tools rounds=3 hold=1", "tools", "reply"),
    ("threads children=2 hold=1", "reply", "threads"),
    ("long events=80 hold=1", "reply", "reply"),
)
# … of these for an answer …
ASKING = (("confirm", "reply", "tools"), ("custom_tool", "tools", "reply"))
# … and these are at it all the time, so that whatever happens strikes them at any point of a turn.
MOVING = (
    ("reply pace=0.3", "reply pace=0.3", "reply pace=0.3"),
    ("reply pace=0.2", "tools pace=0.1", "reply pace=0.2"),
    ("tools rounds=4 pace=0.15", "reply pace=0.2", "tools pace=0.1"),
    ("tools rounds=2 swap=1 pace=0.2", "tools rounds=2 swap=1 pace=0.2", "reply pace=0.1"),
    ("threads children=3 pace=0.1", "reply pace=0.1", "threads children=1 pace=0.1"),
    ("long events=150 pace=0.03", "reply pace=0.1", "reply pace=0.2"),
)


@dataclass(slots=True)
class Member:
    """One conversation: what was said, in order; turn n has the id `turn-n`."""

    session_id: str
    texts: list[str] = field(default_factory=list)

    @property
    def turn_ids(self) -> list[str]:
        return [f"turn-{number}" for number in range(1, len(self.texts) + 1)]


@dataclass(slots=True)
class Crowd:
    """A dozen conversations of the tenant `acme`; `name` is the beginning of their session ids."""

    name: str
    api: Api
    archive: Archive
    provider: Provider
    held: list[Member] = field(default_factory=list)
    asking: list[Member] = field(default_factory=list)
    moving: list[Member] = field(default_factory=list)
    _questions: dict[str, Json] = field(default_factory=dict)

    @property
    def members(self) -> list[Member]:
        return [*self.held, *self.asking, *self.moving]

    async def begin(self) -> None:
        """Say three turns in each; return when every one of them is in the middle of one."""
        await asyncio.gather(
            *(self._enter("held", self.held, scripts) for scripts in HELD),
            *(self._enter("asking", self.asking, scripts) for scripts in ASKING),
            *(self._enter("moving", self.moving, scripts) for scripts in MOVING),
        )
        await eventually(self._all_prompted, "a message of each conversation at the provider")
        for one in self.asking:
            await self._asked(one)

    async def say(self) -> None:
        """One more turn in each conversation, as often tried as it takes."""
        await asyncio.gather(*(self._say(one) for one in self.members))

    async def answer(self) -> None:
        """Answer what was asked before `begin` returned, as often tried as it takes."""
        for session_id, action in self._questions.items():
            kind, body = "tool_confirmations", {"tool_use_id": action["tool_use_id"]}
            if action["kind"] == "custom_tool":
                kind = "tool_results"
                body = {"custom_tool_use_id": action["tool_use_id"], "content": ANSWER}
            else:
                body["result"] = "allow"
            await self.api.post_stubbornly(f"/v1/sessions/{session_id}/{kind}", body)

    async def release(self, members: list[Member]) -> None:
        """Let the held turns of these go on."""
        for one in members:
            [session] = await self.provider.of(ACME, one.session_id)
            await self.provider.release(session)

    async def ended(self) -> float:
        """Wait until every turn has ended; the time (`time.monotonic`) when the last one had."""
        for one in self.members:  # one after the other: a dozen at once ask more than they wait
            for turn_id in reversed(one.turn_ids):
                await self.api.ended(one.session_id, turn_id)
        return time.monotonic()

    async def check(self) -> None:
        """Every turn completed with its own reply; each message sent once, in order; the archive
        has what the provider made, each event once, byte for byte, and its turns add up."""
        for one in self.members:
            await self._check(one)
        await self._one_body_for_one_seq()
        await self._turns_add_up()

    async def raw_repeats(self) -> int:
        """Rows of the table beyond the first for their seq; merges take them away in time."""
        return await self.archive.count(
            "SELECT count() - uniqExact(session_id, seq) FROM session_events"
            " WHERE tenant_id = {tenant:String} AND startsWith(session_id, {name:String})",
            tenant=ACME,
            name=f"{self.name}-",
        )

    async def _enter(self, kind: str, room: list[Member], scripts: tuple[str, ...]) -> None:
        one = Member(f"{self.name}-{kind}-{len(room) + 1}")
        room.append(one)
        await self.api.open(one.session_id)
        for script in scripts:
            await self._say(one, f" [[script: {script}]]")

    async def _say(self, one: Member, script: str = "") -> None:
        number = len(one.texts) + 1
        one.texts.append(f"{one.session_id}, turn {number}{script}")
        body = {"content": one.texts[-1], "turn_id": f"turn-{number}"}
        await self.api.post_stubbornly(f"/v1/sessions/{one.session_id}/turns", body)

    async def _all_prompted(self) -> bool:
        messages = await self.provider.messages()
        return all(messages.get(f"{ACME}/{one.session_id}") for one in self.members)

    async def _asked(self, one: Member) -> None:
        await self.api.turn_in(one.session_id, "turn-1", "requires_action")
        page = await self.api.session(one.session_id)
        [self._questions[one.session_id]] = page["pending_actions"]

    async def _check(self, one: Member) -> None:
        for turn_id, text in zip(one.turn_ids, one.texts, strict=True):
            page = await self.api.turn(one.session_id, turn_id)
            found = (page["status"], page["reply"], page["error"])
            assert found == ("completed", reply_to(text), None), (one.session_id, turn_id)
        page = await self.api.settled(one.session_id)
        rows = await self.archive.complete(ACME, one.session_id, page["last_seq"])
        log = await self.provider.only(ACME, one.session_id)
        assert_sent_once(log, one.texts)
        answers = [given for given in log.inputs if given["type"] != "user.message"]
        assert len(answers) == (one in self.asking), answers
        assert_recorded(rows, log)
        _assert_told_in_order(one, rows)

    async def _one_body_for_one_seq(self) -> None:
        """A repeat in the table is the same event again."""
        found = await self.archive.query(
            "SELECT session_id, seq FROM session_events"
            " WHERE tenant_id = {tenant:String} AND startsWith(session_id, {name:String})"
            " GROUP BY session_id, seq HAVING uniqExact(event_id, type, data) > 1",
            tenant=ACME,
            name=f"{self.name}-",
        )
        assert found == []

    async def _turns_add_up(self) -> None:
        """`turn_facts` has each turn once, with the tokens of its events."""
        query = (
            "SELECT session_id, turn_id, {tokens} FROM {{view:Identifier}}"
            " WHERE tenant_id = {{tenant:String}} AND startsWith(session_id, {{name:String}})"
            " AND turn_id != '' GROUP BY session_id, turn_id ORDER BY session_id, turn_id"
        )
        facts, events = [
            await self.archive.query(
                query.format(tokens=tokens), view=view, tenant=ACME, name=f"{self.name}-"
            )
            for view, tokens in (
                ("turn_facts", "sum(output_tokens), count()"),
                ("events", "sum(output_tokens), countIf(type = 'turn.completed')"),
            )
        ]
        assert facts == events
        assert len(facts) == sum(len(one.texts) for one in self.members)


def _assert_told_in_order(one: Member, rows: list[Row]) -> None:
    """One turn after the other, each accepted once and completed once."""
    ends = [row.turn_id for row in rows if row.type == "turn.completed"]
    assert ends == one.turn_ids
    for turn_id in one.turn_ids:
        types = turn_rows(rows, turn_id)
        assert types[:2] == ["turn.accepted", "turn.started"], types
        assert types.count("turn.accepted") == 1
        assert types[-1] == "turn.completed", types
