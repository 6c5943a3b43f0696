"""The gate of a new version: recorded sessions are asked again of it, and it must do no worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from services.operator.agents.plan import Remote
from services.operator.archive import ArchiveReader
from services.operator.failures import Impossible
from services.operator.reruns.again import compared, driven, plans
from services.operator.reruns.bounds import Pace, RunBudget
from services.operator.reruns.compare import Pair, summary
from services.operator.reruns.drive import Wanted

# How much more the turns may cost than they did, in percent.
DEARER = 50.0
PATIENCE_S, AT_ONCE, TURNS_A_MINUTE = 1_800.0, 4, 60.0
MOST_NAMED = 5


class Gate(Struct, frozen=True):
    """Recorded `sessions` of a tenant, asked again for at most so many US dollars an agent."""

    sessions: tuple[str, ...]
    tenant: str
    budget_usd: float


async def passed(
    gate: Gate, archive: ArchiveReader, name: str, there: Remote, say: Callable[[str], None]
) -> str:
    """Ask the sessions that ran on this agent of its version `there`, and say how it did. An apply that is run
    again goes on with the same run, and sends no turn twice. Raises Impossible when it does worse, or when that
    can't be told."""
    run = f"gate-{there.id[-12:]}-{there.version}"
    found = plans(archive, gate.tenant, run, gate.sessions)
    its = [one for one in found if any(turn.agent == there.id for turn in one.turns)]
    if not its:
        raise Impossible(f"no --gate session ran on {name} ({there.id}): name one that did")
    wanted = Wanted(run=run, agent=f"{name}@{there.version}", patience=PATIENCE_S, sessions=AT_ONCE)
    bounds = (Pace(TURNS_A_MINUTE), RunBudget(gate.budget_usd))
    ended = await driven(wanted, archive, its, bounds, say)
    pairs = [pair for one in its for pair in compared(archive, one)]
    if ended != "done":
        why = "it was stopped" if ended == "stopped" else f"${gate.budget_usd:.2f} would not last"
        raise Impossible(f"the gate of {name} has no result ({why}). {_made(there)}")
    if wrong := judged(pairs, there.id, there.version):
        raise Impossible(f"the gate of {name} is not passed: {wrong}. {_made(there)}")
    return f"{name}: {len(pairs)} turns of {len(its)} sessions end as they did"


def judged(pairs: Sequence[Pair], agent: str, version: int) -> str:
    """What is wrong with the version, "" for nothing."""
    silent = [pair for pair in pairs if pair.rerun is None]
    if silent or not pairs:
        return f"{len(silent)} of {len(pairs)} turns have not ended"
    if strange := {pair.rerun.agent for pair in pairs if pair.rerun} - {agent}:
        went = ", ".join(sorted(strange))
        return f"the turns went to {went} and not to {agent}: the tenant has another of that name"
    others = [pair for pair in pairs if not pair.same_outcome]
    if others:
        return f"{len(others)} of {len(pairs)} turns end otherwise with version {version}: {_named(others)}"
    sums = summary(pairs)
    was, now = sums["recorded"]["cost_usd"], sums["rerun"]["cost_usd"]
    if now > was * (1 + DEARER / 100):
        return f"the turns cost ${now:.4f} and were recorded for ${was:.4f}"
    return ""


def _named(others: Sequence[Pair]) -> str:
    named = [
        f"{pair.session} turn {pair.place} ({pair.recorded.turn.status}, now "
        f"{pair.rerun.turn.status if pair.rerun else 'none'})"
        for pair in others[:MOST_NAMED]
    ]
    return ", ".join(named) + (", …" if len(others) > MOST_NAMED else "")


def _made(there: Remote) -> str:
    return f"Version {there.version} is made and no session gets it"
