"""The store on PostgreSQL in few round trips: what sessions write and read at the same time travels together.

A worker with hundreds of sessions would otherwise spend its time on statements, and wait for connections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import (
    CTE,
    BigInteger,
    Column,
    ColumnElement,
    Double,
    Executable,
    FromClause,
    Update,
    and_,
    case,
    column,
    func,
    literal_column,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.caps import write_with
from services.agent_worker.adapters.direct import Direct
from services.agent_worker.adapters.ledger import COLUMNS, ledger_rows
from services.agent_worker.adapters.sql import (
    HEAD,
    KEPT,
    NEW_HEAD,
    SqlLeases,
    columns_of,
    count_filed,
    fenced,
    in_order,
    inbox_row,
    key_columns,
    key_of,
    left_over,
    released_columns,
    values,
    writing,
)
from services.agent_worker.ports import Head, Money, NewInput, Unread, filed_of
from shared.grouped import Grouped
from shared.session.key import SessionKey
from shared.tables.arrays import given_rows
from shared.tables.clock import Now
from shared.tables.worker import HEADS, INBOX, LEDGER

KEY = ("tenant_id", "session_id")
ID = (*KEY, "input_id")
INPUT = tuple(each.name for each in INBOX.columns if each is not INBOX.c.position)
FOUND = tuple(each.name for each in INBOX.columns if each.name not in KEY)


def _columns(names: Sequence[str], of: Any) -> list[Column[Any]]:
    return [of.c[name] for name in names]


def _same_session(one: Any, other: Any) -> ColumnElement[bool]:
    return and_(*(mine == its for mine, its in zip(key_of(one), key_of(other), strict=True)))


def _make_heads() -> Executable:
    """A new head for each session given that has none."""
    asked = given_rows(*_columns(KEY, HEADS))
    new = select(*key_of(asked), *NEW_HEAD.values()).group_by(*key_of(asked))
    made = insert(HEADS).from_select((*KEY, *NEW_HEAD), new.order_by(*in_order(asked)))
    return made.on_conflict_do_nothing(index_elements=key_of(HEADS))


def _filing() -> tuple[CTE, CTE, FromClause]:
    """The inputs given, those of them that are not in the inbox yet, which are filed, and of each session that has
    such how many they are and the last of their positions.

    All heads are locked (which counting them waits for) before the first input has its position: one with a lower
    position that becomes visible later would lie behind its reader.
    """
    asked = select(given_rows(*_columns(INPUT, INBOX))).cte("asked")
    locked = (
        select(literal_column("1"))
        .where(tuple_(*key_of(HEADS)).in_(select(*key_of(asked))))
        .order_by(*in_order(HEADS))
        .with_for_update()
        .cte("locked")
    )
    all_locked = select(func.count()).select_from(locked).scalar_subquery() > 0
    rows = select(*_columns(INPUT, asked)).where(all_locked)
    filed = (
        insert(INBOX)
        .from_select(INPUT, rows.order_by(*in_order(asked), asked.c.place))
        .on_conflict_do_nothing(index_elements=_columns(ID, INBOX))
        .returning(*_columns(ID, INBOX), INBOX.c.position)
        .cte("filed")
    )
    counted = func.count().label("inputs"), func.max(filed.c.position).label("last")
    news = select(*key_of(filed), *counted).group_by(*key_of(filed)).subquery("news")
    return asked, filed, news


def _file() -> Executable:
    """Inputs that are not in the inbox yet: filed, counted and their sessions woken. Returns their places."""
    asked, filed, news = _filing()
    same = _same_session(asked, filed) & (asked.c.input_id == filed.c.input_id)
    return (
        select(func.min(asked.c.place).label("place"))
        .join_from(asked, filed, same)
        .group_by(*_columns(ID, asked))
        .add_cte(_woken(news).cte("woken"))
    )


def _take_in() -> Executable:
    """The same for sessions whose heads are given besides: one is written too if its row is still the one that was
    claimed, all inputs given for it are new, and none is filed that it has not taken in. Returns the places of what
    was filed, each with its head's place and, where that was written, its position."""
    asked, filed, news = _filing()
    heads = given_rows(*_columns(HEAD, HEADS), column("inputs", BigInteger()), of="head_")
    as_read = and_(
        HEADS.c.epoch == heads.c.epoch,
        HEADS.c.version == heads.c.version,
        heads.c.inputs == news.c.inputs,
        heads.c.taken == HEADS.c.filed + news.c.inputs,
    )
    kept: dict[str, ColumnElement[Any]] = {name: heads.c[name] for name in KEPT}
    kept |= {"position": news.c.last, "version": HEADS.c.version + 1}
    taken = (
        _woken(news)
        .values({name: case((as_read, new), else_=HEADS.c[name]) for name, new in kept.items()})
        .where(_same_session(HEADS, heads))
        .returning(
            *key_of(HEADS),
            heads.c.place.label("head"),
            case((HEADS.c.position == news.c.last, news.c.last)).label("last"),
        )
        .cte("taken")
    )
    same = _same_session(asked, filed) & (asked.c.input_id == filed.c.input_id)
    return (
        select(func.min(asked.c.place).label("place"), taken.c.head, taken.c.last)
        .join_from(asked, filed, same)
        .join(taken, _same_session(taken, filed))
        .group_by(*_columns(ID, asked), taken.c.head, taken.c.last)
    )


def _woken(news: FromClause) -> Update:
    """The heads of sessions with news, due at once unless a driver has them."""
    return (
        update(HEADS)
        .values(
            filed=HEADS.c.filed + news.c.inputs,
            wake_at=case((HEADS.c.lease_owner.is_(None), Now()), else_=HEADS.c.wake_at),
        )
        .where(_same_session(HEADS, news))
    )


def _known() -> Executable:
    """What the inbox holds under the ids given."""
    asked = given_rows(*_columns(ID, INBOX))
    same = _same_session(asked, INBOX) & (asked.c.input_id == INBOX.c.input_id)
    return select(asked.c.place, INBOX.c.kind, INBOX.c.body).join_from(asked, INBOX, same)


def _write(*more: ColumnElement[Any]) -> tuple[Update, FromClause]:
    """Heads whose rows are still those that were claimed: written. Returns their places; also the table of what is
    given, with `more` columns than a head's."""
    asked = given_rows(*_columns(HEAD, HEADS), *more)

    def its(rows: FromClause) -> ColumnElement[bool]:
        same = _same_session(HEADS, rows)
        return and_(same, HEADS.c.epoch == rows.c.epoch, HEADS.c.version == rows.c.version)

    mine = (
        select(*asked.c)
        .join_from(asked, HEADS, its(asked))
        .order_by(*in_order(HEADS))
        .with_for_update(of=HEADS)
        .cte("mine")
    )
    kept = {name: mine.c[name] for name in KEPT}
    write = update(HEADS).values(kept | {"version": HEADS.c.version + 1}).where(its(mine))
    return write.returning(mine.c.place), mine


def _release() -> Executable:
    """The same, given back: due at once when there is news, else at `due_at`."""
    write, mine = _write(column("due_at", Double()))
    due = case((HEADS.c.filed > mine.c.taken, Now()), else_=mine.c.due_at)
    return write.values(lease_owner=None, wake_at=due)


def _charge() -> Executable:
    """Heads written as `_write` does, and lines of the ledger for those that are: `of` is the place of a line's
    head."""
    write, mine = _write()
    lines = given_rows(column("of", BigInteger()), *_columns(COLUMNS, LEDGER), of="line_")
    rows = select(*_columns(COLUMNS, lines)).join_from(lines, mine, lines.c.of == mine.c.place)
    return write.add_cte(insert(LEDGER).from_select(COLUMNS, rows).cte("charged"))


def _unread() -> Executable:
    """The first 1,000 inputs of each session given that come `after` a position."""
    asked = given_rows(*_columns(KEY, INBOX), column("after", BigInteger()))
    inbox = (
        select(*_columns(FOUND, INBOX))
        .where(_same_session(INBOX, asked), INBOX.c.position > asked.c.after)
        .order_by(INBOX.c.position)
        .limit(literal_column("1000"))
        .lateral("inbox")
    )
    return (
        select(asked.c.place, *inbox.c)
        .join_from(asked, inbox, true())
        .order_by(asked.c.place, inbox.c.position)
    )


MAKE_HEADS, FILE, KNOWN, UNREAD = _make_heads(), _file(), _known(), _unread()
TAKE_IN = _take_in()
WRITE, RELEASE, CHARGE = _write()[0], _release(), _charge()


class PostgresStore(SqlLeases):
    """The Store port on PostgreSQL."""

    def __init__(self, engine: AsyncEngine, direct: Direct) -> None:
        super().__init__(engine)
        self._direct = direct
        self._writes = Grouped(self._write_group)
        self._releases = Grouped(self._release_group)
        self._takes = Grouped(self._take_group)
        self._reads = Grouped(self._read_group)

    async def file(self, inputs: Sequence[NewInput]) -> set[SessionKey]:
        """See Store.file."""
        inputs = await self._without_repeats(inputs)
        rows = [inbox_row(new) for new in inputs]
        await self._rows(MAKE_HEADS, _arrays(KEY, rows))
        found = await self._rows(FILE, _arrays(INPUT, rows))
        filed = [inputs[row.place - 1] for row in found]
        count_filed(inputs, filed)
        return {new.key for new in filed}

    async def _without_repeats(self, inputs: Sequence[NewInput]) -> Sequence[NewInput]:
        asked = [new for new in inputs if new.formerly]
        if not asked:
            return inputs
        ids = [{**key_columns(new.key), "input_id": new.formerly} for new in asked]
        rows = await self._rows(KNOWN, _arrays(ID, ids))
        found = [(asked[row.place - 1], row) for row in rows]
        return left_over(inputs, {id(n) for n, row in found if n.repeats(row.kind, row.body)})

    async def unread(self, key: SessionKey, after: int) -> list[Unread]:
        """See Store.unread; at most 1,000 at a time."""
        return await self._reads((key, after))

    async def write(self, head: Head, money: Money | None = None) -> Head:
        """See Store.write."""
        if money is not None:
            await write_with(self._engine, head, money)
            return replace(head, version=head.version + 1)
        if not await self._writes(head):
            raise fenced(head)
        return replace(head, version=head.version + 1)

    async def take_in(self, head: Head, inputs: Sequence[NewInput]) -> Head | None:
        """See Store.take_in. A head that adds to the ledger is not written: `write` does that alone."""
        if ledger_rows(head.unsaid):
            await self.file(inputs)
            return None
        position = await self._takes((head, inputs))
        if position is None:
            return None
        return replace(head, version=head.version + 1, position=position)

    async def release(self, head: Head, due_at: str | None) -> None:
        """See Store.release."""
        if not await self._releases((head, due_at)):
            raise fenced(head)

    async def _rows(self, statement: Executable, row: Mapping[str, Any]) -> Sequence[Any]:
        return await self._direct.rows(statement, values(row))

    async def _write_group(self, heads: Sequence[Head]) -> list[bool]:
        rows = [columns_of(head) for head in heads]
        lines = [
            {"of": place, **line}
            for place, head in enumerate(heads, 1)
            for line in ledger_rows(head.unsaid)
        ]
        if not lines:
            return await self._written(WRITE, HEAD, rows)
        given = {f"line_{name}": each for name, each in _arrays(("of", *COLUMNS), lines).items()}
        return await self._written(CHARGE, HEAD, rows, given)

    async def _release_group(self, given: Sequence[tuple[Head, str | None]]) -> list[bool]:
        rows = [released_columns(head, due_at) for head, due_at in given]
        return await self._written(RELEASE, (*HEAD, "due_at"), rows)

    async def _written(
        self,
        statement: Executable,
        names: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        more: Mapping[str, Any] | None = None,
    ) -> list[bool]:
        """Which of the heads given were still theirs who gave them. `more` is what else the statement takes."""
        about = {**_arrays(names, rows), **(more or {})}
        with writing():
            places = {row.place for row in await self._rows(statement, about)}
        return [place in places for place in range(1, len(rows) + 1)]

    async def _take_group(
        self, given: Sequence[tuple[Head, Sequence[NewInput]]]
    ) -> list[int | None]:
        """The positions of the heads that were written."""
        heads = [{**columns_of(head), "inputs": len(inputs)} for head, inputs in given]
        inputs = [new for _, inputs in given for new in inputs]
        about = {f"head_{name}": rows for name, rows in _arrays((*HEAD, "inputs"), heads).items()}
        with writing():
            found = await self._rows(
                TAKE_IN, about | _arrays(INPUT, [inbox_row(new) for new in inputs])
            )
        count_filed(inputs, [inputs[row.place - 1] for row in found])
        positions = {row.head: row.last for row in found}
        return [positions.get(place) for place in range(1, len(heads) + 1)]

    async def _read_group(self, given: Sequence[tuple[SessionKey, int]]) -> list[list[Unread]]:
        asked = [{**key_columns(key), "after": after} for key, after in given]
        found: list[list[Unread]] = [[] for _ in given]
        for row in await self._rows(UNREAD, _arrays((*KEY, "after"), asked)):
            found[row.place - 1].append(Unread(row.position, filed_of(row)))
        return found


def _arrays(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in names}
