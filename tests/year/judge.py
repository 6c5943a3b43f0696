"""What has come of a year: figures, and everything that broke a promise."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.simulator.play.usage import CENT
from shared.orphans import owner, used_by
from shared.session.caps import Cap, Spender, applying
from shared.session.key import SessionKey
from tests.year.log import YearLog
from tests.year.provider import PayingConversation
from tests.year.users import User
from tests.year.world import World

MICRO_USD_A_CENT = 10_000
HOUR_USD = 0.08
Account = tuple[Cap, str, str]  # the cap, whose it is, the month ("all")


@dataclass(frozen=True)
class Judged:
    """`figures` by name, in the order of telling; `wrong` in words, empty for a good year."""

    figures: dict[str, str]
    wrong: Sequence[str]


def judge(world: World, users: Sequence[User], killed: int) -> Judged:
    """To be asked when all is at rest."""
    turns, wrong_turns = _turns(world, users)
    sessions, wrong_sessions = _sessions(world)
    money, wrong_money = _money(world)
    capped, wrong_caps = _caps(world)
    log = {
        "workers killed": f"{killed:,}",
        "events recorded": f"{sum(world.log.count.values()):,}",
        "events said again": f"{world.log.repeats:,}",
    }
    wrong = [*world.log.wrong, *wrong_turns, *wrong_sessions, *wrong_money, *wrong_caps]
    figures = {**turns, **log, **sessions, **money, **capped, **_rest(world)}
    return Judged(figures, wrong)


# ---- turns ----------------------------------------------------------------------------------------------------


def _turns(world: World, users: Sequence[User]) -> tuple[dict[str, str], list[str]]:
    asked = [turn for user in users for turn in user.asked]
    sent = Counter(_turn_of(content) for one in world.paying.paid for content in one.messages)
    ends = world.log.ends
    wrong = [f"{turn}: ends {ends.get(turn)}" for turn in asked if len(ends.get(turn, ())) != 1]
    for turn in asked:
        meant = int(ends.get(turn) != ["turn.refused"])
        if sent[turn] != meant:
            wrong.append(f"{turn}: sent {sent[turn]} times, not {meant}; ends {ends.get(turn)}")
    wrong += [f"{turn}: nobody asked it" for turn in {*sent, *ends}.difference(asked)]
    wrong += [f"{key}: events are left unsaid or undone" for key in _unfinished(world)]
    if world.log.dead or world.buried:
        wrong.append(f"{world.log.dead + len(world.buried)} dead letters")
    kinds = Counter(end for ended in ends.values() for end in ended)
    told = ", ".join(f"{kind.removeprefix('turn.')} {n:,}" for kind, n in sorted(kinds.items()))
    figures = {
        "turns asked": f"{len(asked):,}",
        "turns sent": f"{sum(sent.values()):,}",
        "turns ended": f"{sum(kinds.values()):,} ({told})",
    }
    return figures, wrong


def _turn_of(content: Sequence[dict[str, str]]) -> str:
    """The user's own words come last, what is carried over before them."""
    return content[-1]["text"].split()[0]


def _unfinished(world: World) -> Iterator[SessionKey]:
    for key, row in world.store.rows.items():
        head = row.head
        if head.unsaid or head.todo or head.state.last_seq != world.log.last_seq(key):
            yield key


# ---- provider sessions ----------------------------------------------------------------------------------------


def _sessions(world: World) -> tuple[dict[str, str], list[str]]:
    paid = world.paying.paid
    alive = [one for one in paid if not one.closed]
    leaked = [one for one in alive if not _owned(world, one)]
    wrong = [f"{one.id} of {one.mark}: alive, and nobody's" for one in leaked]
    wrong += [text for one in paid if (text := _unrecorded(world.log, one))]
    figures = {
        "provider sessions made": f"{len(paid):,}",
        "provider sessions closed": f"{len(paid) - len(alive):,}",
        "alive at the end": f"{len(alive):,}, of which leaked {len(leaked):,}",
        "rotations": f"{world.log.count['session.rotated']:,}",
    }
    return figures, wrong


def _owned(world: World, one: PayingConversation) -> bool:
    key = owner(one.mark)
    row = world.store.rows.get(key) if key else None
    return row is not None and used_by(row.head.state, row.head.todo) == one.id


def _unrecorded(log: YearLog, one: PayingConversation) -> str:
    """All that happened is recorded but for its end, which is streamed once and never listed."""
    happened = len(one.log)
    ends = sum(e.type in ("session.status_terminated", "session.deleted") for e in one.log[-2:])
    found = log.recorded[one.id]
    return "" if happened - ends <= found <= happened else f"{one.id}: {found} of {happened} events"


# ---- money ----------------------------------------------------------------------------------------------------


def _money(world: World) -> tuple[dict[str, str], list[str]]:
    ledger, wrong, most = world.log.book.by_provider, list[str](), 0.0
    billed = 0.0
    for one in world.paying.paid:
        bill = one.usage.spent() * MICRO_USD_A_CENT / CENT
        billed += bill
        differs = abs(ledger[one.id] - bill)
        most = max(most, differs)
        if differs >= MICRO_USD_A_CENT:
            wrong.append(
                f"{one.id}: {ledger[one.id]} micro-dollars in the ledger, {bill:.0f} billed"
            )
    figures = {
        "ledger": f"${sum(ledger.values()) / 1e6:,.6f}",
        "provider's bill": f"${billed / 1e6:,.6f}",
        "most between the two for a provider session": f"{most:.2f} micro-dollars",
    }
    return figures, wrong


def _caps(world: World) -> tuple[dict[str, str], list[str]]:
    spent, dearest = _accounts(world)
    wrong, beyond = list[str](), list[int]()
    for account, sum_of in spent.items():
        cap, who, period = account
        if (kept := world.store.books.spent[cap.scope, who, period]) != sum_of:
            wrong.append(
                f"{cap.tenant_id} {cap.scope} {who} {period}: the account says {kept} "
                f"micro-dollars, the ledger {sum_of}"
            )
        if (over := sum_of - cap.limit) <= 0:
            continue
        beyond.append(over)
        if over > dearest[account]:
            wrong.append(
                f"{cap.tenant_id} {cap.scope} {who} {period}: {over} micro-dollars beyond the cap; "
                f"its dearest turn cost {dearest[account]}"
            )
    if world.store.books.reservations:
        wrong.append(f"left reserved: {sorted(world.store.books.reservations)}")
    reached = sum(s >= cap.limit for (cap, _, _), s in spent.items())
    figures = {
        "accounts under caps": f"{len(spent):,}, of which {reached:,} reached",
        "most beyond a cap": f"${max(beyond, default=0) / 1e6:.6f}",
        "dearest turn under a cap": f"${max(dearest.values(), default=0) / 1e6:.6f}",
    }
    return figures, wrong


def _accounts(world: World) -> tuple[Counter[Account], dict[Account, int]]:
    """What was spent under each cap, by whom and in which month, and its dearest turn, by the log alone."""
    spent, dearest = Counter[Account](), defaultdict[Account, int](int)
    book = world.log.book
    for (key, user, month), sum_of in book.by_month.items():
        for account in _of(world, key, user, month):
            spent[account] += sum_of
    turns = Counter[tuple[Account, str]]()
    for (key, user, month, turn), sum_of in book.by_turn.items():
        for account in _of(world, key, user, month):
            turns[account, turn] += sum_of
    for (account, _), sum_of in turns.items():
        dearest[account] = max(dearest[account], sum_of)
    return spent, dearest


def _of(world: World, key: SessionKey, user: str, month: str) -> Iterator[Account]:
    spender = Spender(tenant_id=key[0], user_id=user, session_id=key[1])
    for cap in applying((c for c in world.caps.caps if c.tenant_id == key[0]), spender):
        yield cap, spender.named(cap.scope), "all" if cap.period == "all" else month


# ---- rest -----------------------------------------------------------------------------------------------------


def _rest(world: World) -> dict[str, str]:
    """Measured: how long provider sessions ran and lay open. Reckoned: how long they had lain open if nobody had
    closed any, in which case each session would have kept its first one until the end."""
    now = world.clock()
    running = sum(one.usage.active for one in world.paying.paid) / 3.6e9
    opened = dict[str, float]()
    lay = 0.0
    for one in world.paying.paid:
        lay += ((one.closed_at or now) - one.opened_at).total_seconds() / 3600
        opened.setdefault(one.mark, (now - one.opened_at).total_seconds() / 3600)
    return {
        "hours running, measured": f"{running:,.1f} (${running * HOUR_USD:,.2f})",
        "hours open, measured": f"{lay:,.1f}",
        "hours open without rest, reckoned": f"{sum(opened.values()):,.1f} in {len(opened):,} sessions",
        "hours open that rest saved": f"{sum(opened.values()) - lay:,.1f}",
        "dollars that rest saved": "$0.00: the provider charges for running, not for lying open",
        "the same hours, had they been charged as running": (
            f"${(sum(opened.values()) - lay) * HOUR_USD:,.2f}"
        ),
    }
