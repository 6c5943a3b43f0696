"""What the model is made of: values only, so that two ways to the same situation give the same state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

from tests.unit.model.rules import Stage

# Who holds the row's lease: worker 0 or 1, nobody, or a process that is no more (or let go of it).
NOBODY, GONE = -1, 2

# An event: its kind, what it is about (a turn, or a place in the provider's log), and the epoch that decided it.
# The epoch stands for clock and chance: two workers that decide the same never write the same bytes.
Body = tuple[str, int, int]
Numbered = tuple[int, Body]


class Broken(Exception):
    """The protocol broke a law; the text says which."""


class Value(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """Made, compared and hashed millions of times: what did not change is shared, and hashed once. Holds nothing
    that could lead back to it, so the garbage collector need not look."""

    if TYPE_CHECKING:

        def but(self, **changes: Any) -> Self:
            """The same with other fields."""
    else:
        but = msgspec.Struct.__replace__


class Book(Value, frozen=True, order=True):
    """What the row's state tells, and all events written so far (`history`; a seq is a place in it, from 1).

    `taken` inputs taken in, `ended` turns ended, `line` the turns between the two, of which the first is the open
    one, `attempt` and `phase` of it (`idle`: none is open, `trying`, `waiting` for a further attempt), `prompted`:
    its message was seen, `heard` events of the provider, `heeded` requests to interrupt. `sent`, `joined`: turns
    behind the open one whose messages are on their way into it, or were seen to be taken up.
    """

    taken: int = 0
    ended: int = 0
    line: tuple[int, ...] = ()
    attempt: int = 0
    phase: str = "idle"
    prompted: bool = False
    heard: int = 0
    heeded: int = 0
    history: tuple[Body, ...] = ()
    sent: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()

    @property
    def open(self) -> int:
        """The turn that is open, 0 for none."""
        return self.line[0] if self.phase != "idle" else 0


class Send(Value, frozen=True, order=True):
    """A command: put the turn's message to the provider; as an attempt below 0, into the turn that runs."""

    turn: int
    attempt: int

    @property
    def stops(self) -> bool:
        """Whether it is an interrupt of the turn: its attempt is 0."""
        return not self.attempt

    @property
    def steers(self) -> bool:
        """Whether the message is to go into the turn that runs."""
        return self.attempt < 0


class Row(Value, frozen=True, order=True):
    """The session's row. `live`: its lease has not run out."""

    epoch: int = 0
    version: int = 0
    lease: int = NOBODY
    live: bool = False
    book: Book = Book()
    unsaid: tuple[Numbered, ...] = ()
    todo: tuple[Send, ...] = ()


class Sender(Value, frozen=True, order=True):
    """A Send that is being done. `at`: ready, looking, posted, landed (its answer is on the way), unknown (there
    will be no answer). `heard`: what was recorded when it was called; `checked`: whether the lease was good."""

    send: Send
    look: bool
    at: str = "ready"
    heard: int = 0
    checked: bool = False


class Draft(Value, frozen=True, order=True):
    """A decision on its way through the stages that are `left`."""

    book: Book
    events: tuple[Numbered, ...] = ()
    sends: tuple[Send, ...] = ()
    left: tuple[Stage, ...] = ()


class Shell(Value, frozen=True, order=True):
    """A claimed session in a worker. `saying`: records on the way to the log. `poked`: the inbox is to be read.
    `news`: signals not decided on: `due`, or `failed <turn>`. `draft`: empty between passes."""

    epoch: int
    version: int
    book: Book
    poked: bool = True
    news: tuple[tuple[str, int], ...] = ()
    draft: tuple[Draft, ...] = ()
    saying: tuple[Numbered, ...] = ()
    senders: tuple[Sender, ...] = ()


class Request(Value, frozen=True, order=True):
    """A message on its way to the provider. `excuse`: why it may be one too many, as far as is known when it is
    sent or given up."""

    send: Send
    epoch: int
    excuse: str = ""


class State(Value, frozen=True, order=True):
    """Everything. `offset`, `inbox`: how many inputs are committed and filed; `in_hand`: 1 between the two. `log`:
    how many events the log holds; its bodies are checked as they come. `shells`: of the two workers, each none or
    one. `air`: records whose sender is gone. `messages`, the provider's log: a turn for its message, 0 for an
    idle; `queued`: those that wait to be taken up. `excuses`: of all messages that landed, with their turns. Then
    the faults that may still come are counted, and `asked`, the requests to interrupt that were filed."""

    offset: int = 0
    inbox: int = 0
    in_hand: int = 0
    row: Row = Row()
    log: int = 0
    shells: tuple[tuple[Shell, ...], tuple[Shell, ...]] = ((), ())
    air: tuple[tuple[Numbered, ...], ...] = ()
    requests: tuple[Request, ...] = ()
    messages: tuple[int, ...] = ()
    queued: tuple[int, ...] = ()
    excuses: tuple[tuple[int, str], ...] = ()
    crashes: int = 0
    freezes: int = 0
    losses: int = 0
    interrupts: int = 0
    late: int = 0
    asked: int = 0

    def put(self, me: int, shell: Shell) -> State:
        """With `shell` for worker `me`."""
        shells = ((shell,), self.shells[1]) if me == 0 else (self.shells[0], (shell,))
        return self.but(shells=shells)

    def without(self, me: int) -> State:
        """Without worker `me`'s shell; what it put on its way goes its way."""
        ((shell, *_), other) = self.shells[me], self.shells[1 - me]
        air = tuple(sorted((*self.air, shell.saying))) if shell.saying else self.air
        return self.but(shells=((), other) if me == 0 else (other, ()), air=air)

    def held(self, me: int) -> bool:
        """Whether worker `me` has a lease that lasts."""
        return self.row.lease == me and self.row.live


class Step(Value, frozen=True, order=True):
    """One thing that may happen next. `fault`: it is none of the protocol's own steps."""

    name: str
    state: State
    fault: bool = False
