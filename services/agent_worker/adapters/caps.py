"""Caps in SQL: a head is written together with what its turn reserves, is charged and gives back.

One transaction does all of it, so whichever instruction a worker dies at, there is one reservation for a turn
that runs and none for one that ended. Accounts are locked in one order, and before the head. The month is the
database's: workers whose clocks differ agree on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count, product
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, case, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.agent_worker.adapters.ledger import ledger_rows
from services.agent_worker.adapters.sql import (
    WRITE,
    columns_of,
    connection_to,
    fenced,
    key_columns,
    values,
    writing,
)
from services.agent_worker.ports import CapReached, Head, Money
from shared import logs, metrics
from shared.errors import Transient
from shared.session import caps
from shared.session.caps import Account, Cap, Refusal, Scope, Spender
from shared.session.events import TURN_ENDS, Event, Turn
from shared.tables.caps import (
    CAP_ACCOUNTS,
    CAPS,
    RESERVATIONS,
    reserved_under,
    spent_in_ledger,
    standing,
)
from shared.tables.clock import Now
from shared.tables.worker import LEDGER

log = logs.get(__name__)
# How often a worker reads which caps there are. One that was set is known everywhere after that long.
LOOK_SECONDS = 2.0
# How they stand takes a look at every account: that is told less often.
LOOKS_PER_TELL = 10
# Until then a worker that does not know it adds to the ledger alone: what was counted before is counted again.
SETTLED_SECONDS = 3 * LOOK_SECONDS
# Shares of a cap that are told when they are passed, in percent.
MARKS = (50, 80, 100)
AccountKey = tuple[Scope, str, str]  # scope, who, period


async def write_with(engine: AsyncEngine, head: Head, money: Money) -> None:
    """Write `head` as Store.write does, and settle. Raises Fenced, or CapReached: nothing was written then."""
    lines = ledger_rows(head.unsaid)
    async with connection_to(engine) as connection, connection.begin():
        now = float((await connection.execute(select(Now()))).scalar_one())
        books = _Books(connection, head, money, now)
        await books.open(lines)
        passed = await books.charge(lines)
        await books.settle(money.release)
        if money.reserve is not None:
            await books.reserve(money.reserve)
        with writing():
            written = await connection.execute(WRITE, values(columns_of(head)))
        if written.rowcount != 1:
            raise fenced(head)
        if lines:
            await connection.execute(insert(LEDGER), lines)
    for account, percent in passed:
        _tell(account, percent)


class _Books:
    """The accounts of the caps that count for a head, locked, and its reservation."""

    def __init__(self, connection: AsyncConnection, head: Head, money: Money, now: float) -> None:
        self._connection = connection
        self._head = head
        self._money = money
        self._now = now
        self._caps: dict[AccountKey, Cap] = {}

    async def open(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Make the accounts that are not there, lock them, and count those that were not counted rightly yet."""
        months = {caps.key_of("month", self._now), *(line["at"][:7] for line in lines)}
        for cap in self._money.caps:
            who = self._money.spender.named(cap.scope)
            for period in ("all",) if cap.period == "all" else sorted(months):
                self._caps[cap.scope, who, period] = cap
        for key in sorted(self._caps):
            await self._make(key)
            cap = self._caps[key]
            query = select(CAP_ACCOUNTS.c.counted_at).where(self._is(key)).with_for_update()
            counted_at = (await self._connection.execute(query)).scalar_one()
            settled_at = cap.set_at + SETTLED_SECONDS
            before = counted_at == 0 or counted_at < cap.set_at
            if before or counted_at < settled_at <= self._now:
                await self._count(key)

    async def _make(self, key: AccountKey) -> None:
        dialect = self._connection.dialect.name
        made = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(CAP_ACCOUNTS)
        scope, who, period = key
        earlier = select(func.coalesce(func.max(CAP_ACCOUNTS.c.dearest_micro_usd), 0)).where(
            CAP_ACCOUNTS.c.tenant_id == self._tenant,
            CAP_ACCOUNTS.c.scope == scope,
            CAP_ACCOUNTS.c.who == who,
        )
        row = {
            "tenant_id": self._tenant,
            "scope": scope,
            "who": who,
            "period": period,
            "spent_micro_usd": 0,
            "dearest_micro_usd": earlier.scalar_subquery(),
            "counted_at": 0.0,
        }
        await self._connection.execute(made.values(row).on_conflict_do_nothing())

    async def _count(self, key: AccountKey) -> None:
        scope, who, period = key
        found = spent_in_ledger(self._tenant, scope, who, period)
        spent = int((await self._connection.execute(found)).scalar_one())
        await self._change(key, spent_micro_usd=spent, counted_at=self._now)

    async def charge(self, lines: Sequence[Mapping[str, Any]]) -> list[tuple[Account, int]]:
        """Add the lines to the accounts, and take them off what is reserved; returns the marks that were passed."""
        passed = []
        for key in self._caps:
            more = sum(line["micro_usd"] for line in lines if _counted(line, key[2]))
            if more:
                await self._change(key, spent_micro_usd=CAP_ACCOUNTS.c.spent_micro_usd + more)
                account = await self._account(key)
                before = account.spent - more
                passed += [(account, mark) for mark in MARKS if _passes(before, account, mark)]
        total = sum(line["micro_usd"] for line in lines)
        if total > 0:
            left = RESERVATIONS.c.left_micro_usd
            less = case((left - total > caps.RUNS, left - total), else_=caps.RUNS)
            charged = update(RESERVATIONS).where(*self._mine).values(left_micro_usd=less)
            await self._connection.execute(charged)
        return passed

    async def settle(self, turn_id: str | None) -> None:
        """Give back what is reserved for the turn, which has ended, and remember what it cost."""
        if turn_id is None:
            return
        await self._connection.execute(delete(RESERVATIONS).where(*self._mine))
        cost = cost_of(self._head.unsaid, turn_id)
        for key in self._caps:
            account = await self._account(key)
            if cost > account.dearest:
                await self._change(key, dearest_micro_usd=cost)

    async def reserve(self, turn_id: str) -> None:
        """Raises CapReached."""
        current = caps.key_of("month", self._now)
        keys = [key for key in sorted(self._caps) if key[2] in ("all", current)]
        found = caps.admit([await self._account(key) for key in keys], self._money.least)
        if isinstance(found, Refusal):
            raise CapReached(turn_id, found, caps.words(found, self._now))
        row = {
            **key_columns(self._head.key),
            "turn_id": turn_id,
            "user_id": self._money.spender.user_id,
            "left_micro_usd": found,
        }
        await self._connection.execute(delete(RESERVATIONS).where(*self._mine))
        await self._connection.execute(insert(RESERVATIONS).values(row))

    async def _account(self, key: AccountKey) -> Account:
        scope, who, _ = key
        reserved = reserved_under(self._tenant, scope, who).scalar_subquery()
        columns = CAP_ACCOUNTS.c.spent_micro_usd, CAP_ACCOUNTS.c.dearest_micro_usd
        query = select(*columns, reserved.label("reserved")).where(self._is(key))
        row = (await self._connection.execute(query)).one()
        return Account(
            cap=self._caps[key],
            who=who,
            spent=row.spent_micro_usd,
            reserved=int(row.reserved),
            dearest=row.dearest_micro_usd,
        )

    async def _change(self, key: AccountKey, **columns: Any) -> None:
        await self._connection.execute(update(CAP_ACCOUNTS).where(self._is(key)).values(**columns))

    def _is(self, key: AccountKey) -> ColumnElement[bool]:
        scope, who, period = key
        return and_(
            CAP_ACCOUNTS.c.tenant_id == self._tenant,
            CAP_ACCOUNTS.c.scope == scope,
            CAP_ACCOUNTS.c.who == who,
            CAP_ACCOUNTS.c.period == period,
        )

    @property
    def _tenant(self) -> str:
        return self._head.key[0]

    @property
    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        tenant, session = self._head.key
        return RESERVATIONS.c.tenant_id == tenant, RESERVATIONS.c.session_id == session


def _counted(line: Mapping[str, Any], period: str) -> bool:
    """Whether a line counts in a period. What was brought forward counts in no month: see `spent_in_ledger`."""
    return period == "all" or (line["at"][:7] == period and line["kind"] != "brought_forward")


def cost_of(events: Iterable[Event], turn_id: str) -> int:
    """What the turn that ended in these events has cost, in millionths of a US dollar."""
    ends = (event for event in events if event.type in TURN_ENDS and event.turn_id == turn_id)
    costs = [msgspec.json.decode(event.data, type=Turn).cost_usd for event in ends]
    return round(costs[-1] * 1e6) if costs else 0


def _passes(before: int, account: Account, percent: int) -> bool:
    mark = account.cap.limit * percent / 100
    return before < mark <= account.spent


def _tell(account: Account, percent: int) -> None:
    cap = account.cap
    log.warning(
        "cap_mark_passed",
        percent=percent,
        scope=cap.scope,
        who=account.who,
        period=cap.period,
        limit_usd=cap.limit / 1e6,
        spent_usd=account.spent / 1e6,
    )


class SqlCaps:
    """The Caps port: what was read of the database last."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._caps: dict[tuple[str, Scope, str], list[Cap]] = {}  # by tenant, scope and who

    def of(self, spender: Spender) -> tuple[Cap, ...]:
        """See Caps.of."""
        if not self._caps:
            return ()
        tenant = spender.tenant_id
        places = (
            (scope, who) for scope in caps.SCOPES for who in (caps.EACH, spender.named(scope))
        )
        found = chain.from_iterable(self._caps.get((tenant, *place), ()) for place in places)
        return caps.applying(found, spender)

    async def look(self) -> None:
        """Read which caps there are. Raises Transient."""
        async with connection_to(self._engine) as connection:
            rows = (await connection.execute(select(CAPS))).all()
        found: dict[tuple[str, Scope, str], list[Cap]] = {}
        for row in rows:
            cap = Cap(
                tenant_id=row.tenant_id,
                scope=row.scope,
                who=row.who,
                period=row.period,
                limit=row.limit_micro_usd,
                set_at=row.set_at,
            )
            found.setdefault((cap.tenant_id, cap.scope, cap.who), []).append(cap)
        self._caps = found

    async def tell(self) -> None:
        """Say how many accounts stand at each mark, or above. Raises Transient."""
        stand = dict.fromkeys(product(caps.SCOPES, caps.PERIODS, MARKS), 0)
        if self._caps:
            async with connection_to(self._engine) as connection:
                now = float((await connection.execute(select(Now()))).scalar_one())
                for row in (await connection.execute(standing(now, MARKS))).all():
                    for mark in MARKS:
                        stand[row.scope, row.period, mark] = int(row._mapping[f"at_{mark}"])
        for (scope, period, mark), accounts in stand.items():
            metrics.set_gauge(
                "turnstile_caps_reached", accounts, scope=scope, period=period, percent=str(mark)
            )

    async def run(self) -> None:
        """Look every LOOK_SECONDS until cancelled; while the database is away, what was known goes on."""
        for times in count(1):
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
                if times % LOOKS_PER_TELL == 0:
                    await self.tell()
            except Transient as error:
                log.warning("caps_not_read", reason=error.reason)
