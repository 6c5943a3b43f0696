"""What happens outside the workers: intake files inputs, requests land, the agent goes idle, leases of the dead run
out, records that nobody waits for get into the log or do not."""

from __future__ import annotations

from collections.abc import Iterator

from tests.unit.model.laws import lands, log_agrees, stops
from tests.unit.model.rules import Rules, World
from tests.unit.model.sending import AIR, LOOK, NO_LEASE
from tests.unit.model.things import GONE, Request, State, Step


def outside_steps(state: State, rules: Rules, world: World) -> Iterator[Step]:
    """All that may happen next without a worker."""
    yield from _intake(state, rules, world)
    if state.interrupts:
        asked = state.but(interrupts=state.interrupts - 1, asked=state.asked + 1)
        yield Step("ask for an interrupt", asked, fault=True)
    for request in dict.fromkeys(state.requests):
        yield Step("land", _landed(state, request, world))
    if state.messages and state.messages[-1]:
        yield Step("go idle", state.but(messages=(*state.messages, 0)))
    if state.queued:
        taken = state.but(messages=(*state.messages, state.queued[0]), queued=state.queued[1:])
        yield Step("take a message up", taken)
    if state.row.lease == GONE and state.row.live:
        yield Step("run out: a dead process's lease", state.but(row=state.row.but(live=False)))
    for records in dict.fromkeys(state.air):
        rest = list(state.air)
        rest.remove(records)
        landed = log_agrees(state, records[0])
        air = (*rest, records[1:]) if records[1:] else rest
        yield Step("say late", landed.but(air=tuple(sorted(air))))
        yield Step("never say", state.but(air=tuple(rest)))


def _intake(state: State, rules: Rules, world: World) -> Iterator[Step]:
    """One input at a time: into the inbox by its id, then the offset (or the other way round)."""
    if state.in_hand:
        done = state.but(in_hand=0)
        if rules.files_first:
            yield Step("intake: commit", done.but(offset=state.offset + 1))
        else:
            yield Step("intake: file", done.but(inbox=state.inbox + 1))
        if state.crashes:
            crashed = done.but(crashes=state.crashes - 1)
            yield Step("intake: crash", crashed, fault=True)
    elif state.offset < world.turns:
        taken = state.but(in_hand=1)
        if rules.files_first:
            # What was filed before a crash is filed again: its id is there, nothing changes.
            filed = taken.but(inbox=max(state.inbox, state.offset + 1))
            yield Step("intake: file", filed)
        else:
            yield Step("intake: commit", taken.but(offset=state.offset + 1))


def _landed(state: State, request: Request, world: World) -> State:
    """The message is there; whoever waits for it will be answered."""
    requests = list(state.requests)
    requests.remove(request)
    claimed = request.epoch < state.row.epoch
    excuse = request.excuse or (AIR if claimed else "")
    if excuse == NO_LEASE or (excuse == LOOK and not claimed):
        excuse = ""
    if request.send.stops:
        state = stops(state, request.send.turn, excuse)
    else:
        state = lands(state, request.send.turn, excuse)
        state = _told(state, request.send.turn, world)
    state = state.but(requests=tuple(requests))
    for me, shells in enumerate(state.shells):
        for shell in shells:
            if shell.epoch == request.epoch:
                answered = tuple(
                    sender.but(at="landed")
                    if sender.at == "posted" and sender.send == request.send
                    else sender
                    for sender in shell.senders
                )
                state = state.put(me, shell.but(senders=answered))
    return state


def _told(state: State, turn: int, world: World) -> State:
    """The provider has the message; while the agent works it waits for a request to the model."""
    if world.steers and (state.queued or (state.messages and state.messages[-1])):
        return state.but(queued=(*state.queued, turn))
    return state.but(messages=(*state.messages, turn))
