"""What one of the two workers may do next: claim, take in, write, do and say, let go.

What is sent is in `sending.py`."""

from __future__ import annotations

from collections.abc import Iterator

from tests.unit.model import deciding
from tests.unit.model.laws import log_agrees, written_agrees
from tests.unit.model.rules import Rules, World
from tests.unit.model.sending import sending
from tests.unit.model.things import (
    GONE,
    NOBODY,
    Draft,
    Sender,
    Shell,
    State,
    Step,
)


def worker_steps(state: State, me: int, rules: Rules, world: World) -> Iterator[Step]:
    """All that worker `me` may do, a crash included."""
    yield from _leases(state, me, rules)
    if not state.shells[me]:
        return
    (shell,) = state.shells[me]
    if state.row.lease != me:
        yield Step("stop: the lease is gone", state.without(me))
    yield from _say(state, me, shell, rules)
    yield from sending(state, me, shell, rules, world)
    if shell.draft and not shell.saying:
        yield Step("go on", _go_on(state, me, shell, rules))
    if not shell.draft and not shell.saying:
        yield from _take(state, me, shell, rules, world)
    if state.crashes:
        yield Step("crash", _crashed(state, me), fault=True)


def _crashed(state: State, me: int) -> State:
    row = state.row
    if row.lease == me:
        row = row.but(lease=GONE)
    return state.without(me).but(row=row, crashes=state.crashes - 1)


def _leases(state: State, me: int, rules: Rules) -> Iterator[Step]:
    row = state.row
    if row.lease == me and row.live and state.freezes and state.shells[me]:
        late = row.but(live=False)
        frozen = state.but(row=late, freezes=state.freezes - 1)
        yield Step("freeze for longer than the lease", frozen, fault=True)
    if row.lease == me and not row.live:
        yield Step("extend", state.but(row=row.but(live=True)))
    if row.lease == me and not state.shells[me]:
        yield Step("let go", state.but(row=row.but(lease=GONE, live=False)))
    unread = state.inbox > row.book.taken or state.asked > row.book.heeded
    news = unread or row.book.phase == "waiting"
    if (row.lease == NOBODY and news) or (row.lease != NOBODY and not row.live):
        yield Step("claim", _claim(state, me, rules))


def _claim(state: State, me: int, rules: Rules) -> State:
    if state.shells[me]:
        state = state.without(me)
    row = state.row.but(epoch=state.row.epoch + 1, lease=me, live=True)
    resumed = tuple(Sender(send, look=rules.looks_when_resumed) for send in row.todo)
    shell = Shell(
        row.epoch,
        row.version,
        row.book,
        news=(("due", 0),) if row.book.phase == "waiting" else (),
        draft=(Draft(row.book, left=()),),
        saying=row.unsaid if rules.says_unsaid else (),
        senders=resumed if rules.does_todo else (),
    )
    if not shell.saying:
        shell = shell.but(draft=())
    return state.but(row=row).put(me, shell)


def _say(state: State, me: int, shell: Shell, rules: Rules) -> Iterator[Step]:
    """One record after the other gets into the log."""
    if not shell.saying:
        return
    state = log_agrees(state, shell.saying[0])
    shell = shell.but(saying=shell.saying[1:])
    (draft,) = shell.draft
    if not shell.saying and "write" not in draft.left:
        yield Step("say", _go_on(state.put(me, shell), me, shell, rules))
    else:
        yield Step("say", state.put(me, shell))


def _take(state: State, me: int, shell: Shell, rules: Rules, world: World) -> Iterator[Step]:
    """One input a pass, whichever is there, and all signals with it; nothing to wait for: let go of the session."""
    unread = state.inbox > shell.book.taken
    if not (shell.poked and unread):
        yield from _hand_over(state, me, shell, rules, world)
    if unread:
        more = state.inbox > shell.book.taken + 1
        draft = _accept(shell, shell.book.taken + 1, rules, world)
        read = shell.but(poked=shell.poked and more)
        yield Step("take a turn in", _begin_pass(state, me, read, draft, rules))
    if len(state.messages) > shell.book.heard:
        message = state.messages[shell.book.heard]
        counts = message == shell.book.open or world.same_words or not rules.tells_apart
        draft = deciding.hear(shell.book, message, shell.epoch, counts=counts)
        draft = _steered(draft, shell, rules, world)
        yield Step("hear the provider", _begin_pass(state, me, shell, draft, rules))
    if state.asked > shell.book.heeded:
        draft = deciding.interrupt(shell.book, shell.epoch)
        yield Step("take an interrupt in", _begin_pass(state, me, shell, draft, rules))
    if shell.news:
        yield Step("note signals", _begin_pass(state, me, shell, None, rules))
    heeds = state.asked > shell.book.heeded
    busy = shell.senders or shell.news or heeds or (shell.poked and unread)
    if not busy and shell.book.phase != "trying":
        yield Step("release", _release(state, me, shell, rules))


def _accept(shell: Shell, turn: int, rules: Rules, world: World) -> Draft:
    how = {"cuts_in": world.cut_in, "in_order": rules.in_order}
    draft = deciding.accept(shell.book, shell.epoch, turn, **how)
    return _steered(draft, shell, rules, world)


def _steered(draft: Draft, shell: Shell, rules: Rules, world: World) -> Draft:
    if not world.steers:
        return draft
    return deciding.steer(draft, shell.epoch, one_on_its_way=rules.one_on_its_way)


def _hand_over(state: State, me: int, shell: Shell, rules: Rules, world: World) -> Iterator[Step]:
    """Intake gives its next input to the shell: one write files it and takes it in, or files it alone."""
    if state.in_hand or state.offset == world.turns or not rules.files_first:
        return
    turn = state.offset + 1
    filed = state.but(inbox=max(state.inbox, turn), in_hand=1)
    as_read = state.inbox == state.offset == shell.book.taken and _may_write(state, shell, rules)
    if as_read or not rules.hands_new:
        draft = _accept(shell, turn, rules, world)
        yield Step("hand a turn over", _begin_pass(filed, me, shell, draft, rules))
    else:
        yield Step("hand a turn over: filed", filed.put(me, shell.but(poked=True)))


def _begin_pass(state: State, me: int, shell: Shell, draft: Draft | None, rules: Rules) -> State:
    """Write what an input and the signals come to; signals alone where there is no `draft`."""
    first = len(shell.book.history)
    if draft is None or rules.signals_go_along:
        draft = Draft(shell.book) if draft is None else draft
        for kind, turn in shell.news:
            draft = deciding.signal(draft, kind, turn, shell.epoch)
        shell = shell.but(news=())
    events = tuple(enumerate(draft.book.history[first:], start=first + 1))
    if not events and not draft.sends and draft.book.heeded == shell.book.heeded:
        return state.put(me, shell)
    draft = draft.but(events=events, left=rules.order)
    return _go_on(state, me, shell.but(draft=(draft,)), rules)


def _go_on(state: State, me: int, shell: Shell, rules: Rules) -> State:
    """The next stage, and those behind it that nobody outside sees the beginning of."""
    (draft,) = shell.draft
    while draft.left:
        stage, draft = draft.left[0], draft.but(left=draft.left[1:])
        if stage == "write":
            if not _may_write(state, shell, rules):
                return state.put(me, shell).without(me)
            state, shell = _write(state, shell, draft)
        elif stage == "say":
            return state.put(me, shell.but(saying=draft.events, draft=(draft,)))
        else:
            doing = {sender.send for sender in shell.senders}
            made = tuple(
                Sender(send, look=send.attempt > 1 and rules.looks_when_retrying)
                for send in draft.sends
                if send not in doing
            )
            shell = shell.but(senders=(*shell.senders, *made), book=draft.book)
        if draft.left[:1] == ("write",):
            return state.put(me, shell.but(draft=(draft,)))
    book = draft.book
    return state.put(me, shell.but(draft=(), book=book))


def _may_write(state: State, shell: Shell, rules: Rules) -> bool:
    row = state.row
    epoch = "epoch" not in rules.fence or row.epoch == shell.epoch
    version = "version" not in rules.fence or row.version == shell.version
    return epoch and version


def _write(state: State, shell: Shell, draft: Draft) -> tuple[State, Shell]:
    doing = tuple(sender.send for sender in shell.senders)
    fresh = tuple(send for send in draft.sends if send not in doing)
    row = state.row.but(
        version=shell.version + 1, book=draft.book, unsaid=draft.events, todo=(*doing, *fresh)
    )
    after = written_agrees(state, state.but(row=row))
    return after, shell.but(version=row.version, book=draft.book)


def _release(state: State, me: int, shell: Shell, rules: Rules) -> State:
    if not _may_write(state, shell, rules):
        return state.without(me)
    row = state.row.but(
        version=shell.version + 1, book=shell.book, unsaid=(), todo=(), lease=NOBODY, live=False
    )
    return state.but(row=row).without(me)
