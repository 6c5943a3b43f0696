"""Accounts of caps in memory, and the caps of a worker whom they were told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from services.agent_worker.ports import CapReached, Head, Money
from shared.session import caps
from shared.session.caps import Account, Cap, Refusal, Spender
from shared.session.events import TURN_ENDS, SessionCharged, Turn
from shared.session.key import SessionKey


@dataclass
class KnownCaps:
    """The Caps port: those it was given."""

    caps: tuple[Cap, ...] = ()

    def of(self, spender: Spender) -> tuple[Cap, ...]:
        """See Caps.of."""
        of_tenant = (cap for cap in self.caps if cap.tenant_id == spender.tenant_id)
        return caps.applying(of_tenant, spender)


@dataclass
class Reservation:
    """What the open turn of a session is still expected to cost."""

    turn_id: str
    spender: Spender
    left: int


@dataclass
class MemoryBooks:
    """What was spent, by scope, who and period, and what is reserved, by session."""

    spent: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    dearest: Counter[tuple[str, str]] = field(default_factory=Counter)
    reservations: dict[SessionKey, Reservation] = field(default_factory=dict)

    def settle(self, head: Head, money: Money, now: float) -> None:
        """All that a write does besides. Raises CapReached and changes nothing."""
        before = self.spent.copy(), self.dearest.copy(), dict(self.reservations)
        try:
            self._settle(head, money, now)
        except CapReached:
            self.spent, self.dearest, self.reservations = before
            raise

    def _settle(self, head: Head, money: Money, now: float) -> None:
        self._charge(head, money)
        if money.release is not None:
            self.reservations.pop(head.key, None)
            for cap in money.caps:
                place = cap.scope, money.spender.named(cap.scope)
                self.dearest[place] = max(self.dearest[place], _cost(head, money.release))
        if money.reserve is not None:
            accounts = [self._account(cap, money.spender, now) for cap in money.caps]
            found = caps.admit(accounts, money.least)
            if isinstance(found, Refusal):
                raise CapReached(money.reserve, found, caps.words(found, now))
            self.reservations[head.key] = Reservation(money.reserve, money.spender, found)

    def _charge(self, head: Head, money: Money) -> None:
        for event in head.unsaid:
            if event.type != "session.charged":
                continue
            lines = msgspec.json.decode(event.data, type=SessionCharged).lines
            total = sum(line.micro_usd for line in lines)
            for cap in money.caps:
                period = "all" if cap.period == "all" else event.at[:7]
                self.spent[cap.scope, money.spender.named(cap.scope), period] += total
            if (held := self.reservations.get(head.key)) is not None:
                self.reservations[head.key] = Reservation(
                    held.turn_id, held.spender, max(caps.RUNS, held.left - max(0, total))
                )

    def _account(self, cap: Cap, spender: Spender, now: float) -> Account:
        who = spender.named(cap.scope)
        reserved = sum(
            held.left
            for held in self.reservations.values()
            if held.spender.tenant_id == spender.tenant_id and held.spender.named(cap.scope) == who
        )
        return Account(
            cap=cap,
            who=who,
            spent=self.spent[cap.scope, who, caps.key_of(cap.period, now)],
            reserved=reserved,
            dearest=self.dearest[cap.scope, who],
        )


def _cost(head: Head, turn_id: str) -> int:
    ends = [e for e in head.unsaid if e.type in TURN_ENDS and e.turn_id == turn_id]
    turns = [msgspec.json.decode(event.data, type=Turn) for event in ends]
    return round(turns[-1].cost_usd * 1e6) if turns else 0
