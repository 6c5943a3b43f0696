"""What an input comes to: the core's rules, as far as the protocol depends on them."""

from __future__ import annotations

from tests.unit.model.things import Body, Book, Draft, Send


def accept(book: Book, epoch: int, turn: int, *, cuts_in: bool, in_order: bool) -> Draft:
    """The next input is `turn`; `cuts_in`: it interrupts the open one, `in_order`: and waits behind the others."""
    line = book.line
    line = (*line, turn) if in_order or not line else (line[0], turn, *line[1:])
    book = _record(book.but(taken=book.taken + 1, line=line), ("accepted", turn, epoch))
    if book.phase == "idle":
        return _begin(book, epoch)
    return _stop(book, epoch) if cuts_in else Draft(book)


def steer(draft: Draft, epoch: int, *, one_on_its_way: bool) -> Draft:
    """Behind `draft`: the next in line goes into the open turn, whose message the agent has."""
    book = draft.book
    place = 1 + len(book.joined) + len(book.sent)
    waits = book.sent and one_on_its_way
    if book.phase != "trying" or not book.prompted or waits or place >= len(book.line):
        return draft
    turn = book.line[place]
    book = _record(book.but(sent=(*book.sent, turn)), ("started", turn, epoch))
    return draft.but(book=book, sends=(*draft.sends, Send(turn, -1)))


def hear(book: Book, message: int, epoch: int, *, counts: bool) -> Draft:
    """The provider's next event: the idle (0), or a message; `counts`: it is taken for the open turn's own."""
    book = _record(book.but(heard=book.heard + 1), ("provider", book.heard, -1))
    if message in book.sent:
        left = tuple(turn for turn in book.sent if turn != message)
        return Draft(book.but(sent=left, joined=(*book.joined, message)))
    if message and book.open and counts:
        return Draft(book.but(phase="trying", prompted=True))
    if message or not book.open or not book.prompted:
        return Draft(book)
    return _end(book, "completed", epoch)


def interrupt(book: Book, epoch: int) -> Draft:
    """An interrupt was asked for: the provider stops what runs, a turn that waits ends by our own word."""
    return _stop(book.but(heeded=book.heeded + 1), epoch)


def _stop(book: Book, epoch: int) -> Draft:
    if book.phase == "waiting":
        return _end(book, "interrupted", epoch)
    return Draft(book, sends=(Send(book.open, 0),)) if book.open else Draft(book)


def signal(draft: Draft, kind: str, turn: int, epoch: int) -> Draft:
    """Behind `draft`: a send of the turn failed (`failed`), or the time for a further attempt has come (`due`)."""
    book = draft.book
    if kind == "due" and book.phase == "waiting":
        begun = _begin(book, epoch)
        return Draft(begun.book, sends=(*draft.sends, *begun.sends))
    if kind == "nothing ran" and turn == book.open and book.phase == "waiting":
        begun = _end(book, "interrupted", epoch)
        return Draft(begun.book, sends=(*draft.sends, *begun.sends))
    if kind == "nothing ran" and turn == book.open:
        return draft.but(sends=(*draft.sends, Send(turn, 0)))
    if kind == "failed" and turn == book.open and book.phase == "trying" and not book.prompted:
        waiting = _record(book.but(phase="waiting"), ("retrying", turn, epoch))
        return draft.but(book=waiting)
    return draft


def _end(book: Book, how: str, epoch: int) -> Draft:
    """Those that joined the turn end with it. One that was sent into it goes on behind it, in a further attempt."""
    ended = (*book.joined, book.open)
    book = book.but(
        ended=book.ended + len(ended),
        line=book.line[len(ended) :],
        phase="idle",
        prompted=False,
        attempt=1 if book.sent else 0,
        sent=(),
        joined=(),
    )
    for turn in ended:
        book = _record(book, (how, turn, epoch))
    return _begin(book, epoch) if book.line else Draft(book)


def _begin(book: Book, epoch: int) -> Draft:
    attempt = book.attempt + 1
    book = book.but(phase="trying", prompted=False, attempt=attempt)
    book = _record(book, ("started", book.open, epoch))
    return Draft(book, sends=(Send(book.open, attempt),))


def _record(book: Book, body: Body) -> Book:
    return book.but(history=(*book.history, body))
