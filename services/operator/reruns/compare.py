"""Compares the turns of a rerun with the recorded ones. Pure: two pasts in, pairs and their sums out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from statistics import mean, median
from typing import Any

from msgspec import Struct

from services.operator.line import text_of
from services.operator.past import ToldTurn
from shared.moment import parse

# Texts are compared word by word; of longer ones only so many words, since the time grows with their square.
MAX_WORDS = 4_000


class Pair(Struct, frozen=True, kw_only=True):
    """A recorded turn and the same in the shadow session; None: it was not sent, or never ended."""

    session: str
    shadow: str
    place: int
    recorded: ToldTurn
    rerun: ToldTurn | None

    @property
    def similarity(self) -> float | None:
        """Of the replies, 0 (no word in common) to 1 (the same); None without a second turn."""
        if self.rerun is None:
            return None
        return similarity(self.recorded.turn.reply or "", self.rerun.turn.reply or "")

    @property
    def same_outcome(self) -> bool:
        return self.rerun is not None and self.rerun.turn.status == self.recorded.turn.status

    @property
    def same_tools(self) -> bool:
        return self.rerun is not None and tools(self.rerun) == tools(self.recorded)


def pairs(
    session: str, shadow: str, recorded: Sequence[ToldTurn], rerun: Iterable[ToldTurn]
) -> list[Pair]:
    """The turns of a session beside those of its shadow that have ended, by their ids."""
    again = {told.turn_id: told for told in rerun if told.turn.ended_at is not None}
    return [
        Pair(
            session=session,
            shadow=shadow,
            place=place,
            recorded=told,
            rerun=again.get(told.turn_id),
        )
        for place, told in enumerate(recorded, 1)
    ]


def similarity(a: str, b: str) -> float:
    """2 M / T of the words (difflib's ratio): M matched, T in both texts."""
    words = a.split()[:MAX_WORDS], b.split()[:MAX_WORDS]
    return 1.0 if a == b else difflib.SequenceMatcher(None, *words, autojunk=False).ratio()


def tools(told: ToldTurn) -> list[str]:
    """The names of the called tools, in order."""
    return [call.name for call in told.tools]


def seconds(told: ToldTurn) -> float | None:
    """From submit to end; 0 where an old recording has a publisher's time of submit that was ahead."""
    turn = told.turn
    if turn.ended_at is None:
        return None
    return max(0.0, (parse(turn.ended_at) - parse(turn.submitted_at)).total_seconds())


def summary(found: Sequence[Pair]) -> dict[str, Any]:
    """Sums over the turns that were run again. Dollars, seconds, tokens."""
    done = [pair for pair in found if pair.rerun is not None]
    return {
        "sessions": len({pair.session for pair in found}),
        "turns": len(found),
        "compared": len(done),
        "same_outcome": sum(pair.same_outcome for pair in done),
        "same_tools": sum(pair.same_tools for pair in done),
        "same_reply": sum(pair.similarity == 1.0 for pair in done),
        "mean_similarity": round(mean(pair.similarity or 0.0 for pair in done), 4)
        if done
        else None,
        "recorded": _side([pair.recorded for pair in done]),
        "rerun": _side([pair.rerun for pair in done if pair.rerun is not None]),
    }


def as_json(pair: Pair) -> dict[str, Any]:
    """A pair as an object: both sides, and what can be said of them together."""
    return {
        "session_id": pair.session,
        "shadow_session_id": pair.shadow,
        "turn_id": pair.recorded.turn_id,
        "content": text_of(pair.recorded.content),
        "same_outcome": pair.same_outcome,
        "same_tools": pair.same_tools,
        "similarity": pair.similarity,
        "recorded": _described(pair.recorded),
        "rerun": _described(pair.rerun) if pair.rerun else None,
    }


def _described(told: ToldTurn) -> dict[str, Any]:
    turn = told.turn
    return {
        "status": turn.status,
        "error": turn.error.type if turn.error else None,
        "agent": told.agent,
        "model": told.model,
        "reply": turn.reply,
        "tools": tools(told),
        "seconds": seconds(told),
        "input_tokens": turn.usage.input_tokens,
        "output_tokens": turn.usage.output_tokens,
        "cost_usd": turn.cost_usd,
    }


def _side(turns: Sequence[ToldTurn]) -> dict[str, Any]:
    took = [time for told in turns if (time := seconds(told)) is not None]
    return {
        "completed": sum(told.turn.status == "completed" for told in turns),
        "cost_usd": round(sum(told.turn.cost_usd for told in turns), 6),
        "median_seconds": round(median(took), 3) if took else None,
        "tool_calls": sum(len(told.tools) for told in turns),
        "input_tokens": sum(told.turn.usage.input_tokens for told in turns),
        "output_tokens": sum(told.turn.usage.output_tokens for told in turns),
    }
