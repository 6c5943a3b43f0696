"""How a worker puts a message to the provider: is it still wanted, is the lease good, look, ask, look again."""

from __future__ import annotations

from collections.abc import Iterator

from tests.unit.model.rules import Rules, World
from tests.unit.model.things import Request, Sender, Shell, State, Step

# Why a message may be one too many at the provider; one that is, without any of these, breaks the law.
AIR = "in the air: asked for under the lease, landed after the next claim"
LOOK = "held back: its worker stood still between its look and its request, beyond its lease"
LATE = "given up: landed after its sender had waited for it, looked and found nothing"
# What excuses nothing.
NO_LEASE = "asked for without a lease"


def sending(state: State, me: int, shell: Shell, rules: Rules, world: World) -> Iterator[Step]:
    """The next steps of every Send that is being done."""
    for place in range(len(shell.senders)):
        yield from _One(state, me, shell, rules, world, place).steps()


class _One:
    """The Send at `place` of a shell."""

    def __init__(
        self, state: State, me: int, shell: Shell, rules: Rules, world: World, place: int
    ) -> None:
        self._state, self._me, self._shell = state, me, shell
        self._rules, self._world = rules, world
        self._place, self._sender = place, shell.senders[place]

    def steps(self) -> Iterator[Step]:
        if self._sender.at == "ready" and self._sender.send.stops:
            yield from self._stopping()
        elif self._sender.at == "ready":
            if not (self._overtaken_by_interrupt() or self._steered_before()):
                yield self._called()
        elif self._sender.at == "looking":
            yield self._looked()
        elif self._sender.at == "posted" and self._request() in self._state.requests:
            yield from self._faults()
        elif self._sender.at == "landed":
            yield Step("get the answer", self._done())
            if self._state.losses:
                yield Step("lose the answer", self._lost(self._state), fault=True)
        elif self._sender.at == "unknown" and self._sender.send.stops:
            yield Step("try the interrupt again", self._at(self._sender.but(at="ready")))
        elif self._sender.at == "unknown":
            yield self._looked_after()

    def _overtaken_by_interrupt(self) -> bool:
        """Whether an interrupt of another turn is on its way, which would stop this one."""
        others = (s.send for s in self._shell.senders if s.send.turn != self._sender.send.turn)
        return self._rules.interrupts_first and any(send.stops for send in others)

    def _steered_before(self) -> bool:
        """Whether the turn's message may be on its way into the turn before it."""
        send = self._sender.send
        if send.steers or not self._rules.steers_first:
            return False
        return any(s.send.steers and s.send.turn == send.turn for s in self._shell.senders)

    def _stopping(self) -> Iterator[Step]:
        """Interrupt the turn once its message is there; one that waits for its next attempt ends without."""
        book, turn = self._shell.book, self._sender.send.turn
        sent = not any(s.send.turn == turn and not s.send.stops for s in self._shell.senders)
        if book.open != turn:
            yield Step("see that the turn is over", self._done())
        elif book.phase == "waiting":
            shell = self._gone()
            shell = shell.but(news=(*shell.news, ("nothing ran", turn)))
            yield Step("find nothing to stop", self._state.put(self._me, shell))
        elif sent and book.prompted and self._state.held(self._me):
            yield Step("interrupt", self._asked(self._sender.but(checked=True)))
        elif sent and book.prompted:
            yield Step("stop: the lease has run out", self._state.without(self._me))

    def _called(self) -> Step:
        book, send = self._shell.book, self._sender.send
        if send.steers:
            wanted = send.turn in book.sent and book.phase == "trying" and book.prompted
        else:
            wanted = (book.open, book.attempt, book.prompted) == (send.turn, send.attempt, False)
        if not wanted:
            return Step("see that the send is overtaken", self._done())
        held = self._state.held(self._me)
        if self._rules.checks_lease and not held:
            return Step("stop: the lease has run out", self._state.without(self._me))
        sender = self._sender.but(heard=book.heard, checked=held, at="looking")
        if sender.look:
            return Step("begin to look", self._at(sender))
        return Step("ask", self._asked(sender))

    def _looked(self) -> Step:
        if self._listed():
            return Step("find the message there", self._done())
        if self._rules.checks_again and not self._state.held(self._me):
            return Step("stop: the lease has run out", self._state.without(self._me))
        return Step("look, find nothing, ask", self._asked(self._sender))

    def _faults(self) -> Iterator[Step]:
        """The request gets lost, or takes longer than its sender waits."""
        state, request = self._state, self._request()
        others = tuple(other for other in state.requests if other != request)
        if state.losses:
            yield Step("lose the request", self._lost(state.but(requests=others)), fault=True)
        if state.late:
            given_up = tuple(sorted((*others, request.but(excuse=LATE))))
            state = state.but(requests=given_up, late=state.late - 1)
            unknown = self._sender.but(at="unknown")
            yield Step("give the request up", self._at(unknown, state), fault=True)

    def _looked_after(self) -> Step:
        if self._rules.looks_when_unknown and self._listed():
            return Step("find the message there after all", self._done())
        if self._sender.send.steers:
            return Step("find nothing: it goes out by itself later", self._done())
        shell = self._gone()
        news = (*shell.news, ("failed", self._sender.send.turn))
        failed = self._state.put(self._me, shell.but(news=news))
        return Step("find nothing: the send failed", failed)

    def _asked(self, sender: Sender) -> State:
        request = self._request()
        if not self._state.held(self._me):
            request = request.but(excuse=LOOK if sender.checked else NO_LEASE)
        requests = tuple(sorted((*self._state.requests, request)))
        posted = sender.but(at="posted")
        return self._at(posted, self._state.but(requests=requests))

    def _request(self) -> Request:
        send, epoch = self._sender.send, self._shell.epoch
        same = [r for r in self._state.requests if (r.send, r.epoch) == (send, epoch)]
        return same[0] if same else Request(send, epoch)

    def _listed(self) -> bool:
        """Whether the list holds the message behind the newest that was recorded when the send was called."""
        found = (*self._state.messages[self._sender.heard :], *self._state.queued)
        return any(found) if self._world.same_words else self._sender.send.turn in found

    def _lost(self, state: State) -> State:
        return self._at(self._sender.but(at="unknown"), state.but(losses=state.losses - 1))

    def _at(self, sender: Sender, state: State | None = None) -> State:
        senders = list(self._shell.senders)
        senders[self._place] = sender
        state = self._state if state is None else state
        return state.put(self._me, self._shell.but(senders=tuple(senders)))

    def _gone(self) -> Shell:
        senders = self._shell.senders
        left = (*senders[: self._place], *senders[self._place + 1 :])
        return self._shell.but(senders=left)

    def _done(self) -> State:
        return self._state.put(self._me, self._gone())
