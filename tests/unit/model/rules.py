"""Which protocol is looked at, and what may go wrong: the rules as they are, and each of them broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stage = Literal["write", "say", "do"]
Fence = Literal["epoch and version", "epoch", "version", "nothing"]


@dataclass(frozen=True, slots=True)
class Rules:
    """The protocol; each default is what the worker does.

    `order`: the stages of a pass; what is done goes on beside what comes behind it. `fence`: what a write of the
    row compares. `files_first`: intake commits its offset after the inbox has the input. `hands_new`: what is filed
    by the write that takes it in is not in the inbox yet, nor is anything else that is not taken in.
    `says_unsaid`, `does_todo`: the next driver says and does again what the row holds. `looks_when_resumed`,
    `looks_when_retrying`: such a send first looks for its message.
    `looks_when_unknown`: a send without an answer looks before it counts as failed. `checks_lease`: the lease is
    checked before a send; `checks_again`: once more when the request is about to leave, behind its look.
    `signals_go_along`: whatever is written, what came of commands that ended is decided on in the same write.
    `interrupts_first`: a send waits for interrupts of other turns that are on their way. `tells_apart`: a message
    at the provider counts for the turn whose words it has, not for whichever is open. `in_order`: a turn that
    interrupts the open one waits behind those that wait. `one_on_its_way`: a turn that steers is not sent before
    the one before it was seen to be taken up. `steers_first`: the send of a turn waits until the command is done
    that was to put its message into the turn before.
    """

    order: tuple[Stage, ...] = ("write", "do", "say")
    fence: Fence = "epoch and version"
    files_first: bool = True
    hands_new: bool = True
    says_unsaid: bool = True
    does_todo: bool = True
    looks_when_resumed: bool = True
    looks_when_retrying: bool = True
    looks_when_unknown: bool = True
    checks_lease: bool = True
    checks_again: bool = True
    signals_go_along: bool = True
    interrupts_first: bool = True
    tells_apart: bool = True
    in_order: bool = True
    one_on_its_way: bool = True
    steers_first: bool = True


@dataclass(frozen=True, slots=True)
class World:
    """What is explored: `turns` of one session, and how often each fault may come.

    `crashes` of a process (worker or intake), `freezes` of a worker for longer than its lease, `losses` of a
    request or an answer on the way to the provider, `interrupts` that a client asks for at any time, `late`
    requests whose sender gave them up and that land all the same. `same_words`: all turns say the same. `cut_in`:
    each turn interrupts the one that is open when it comes. `steers`: each goes into the one that is open, and is
    taken up by the agent in the middle of its work, or behind it.
    """

    turns: int = 2
    crashes: int = 0
    freezes: int = 0
    losses: int = 0
    interrupts: int = 0
    late: int = 0
    same_words: bool = False
    cut_in: bool = False
    steers: bool = False
