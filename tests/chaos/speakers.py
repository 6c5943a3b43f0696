"""Who speaks in a run, how their sessions live, and which caps hold for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from infra.local.keys import TENANT
from shared.session.caps import EACH, Cap, Period, Scope

# Sessions rest and grow old within a run. A turn reserves more than the dearest that is played costs.
IDLE_S, ARCHIVE_S, ROTATE_TURNS, TURN_RESERVE_USD = 2, 5, 12, 0.1
LIFETIMES = {
    "TURNSTILE_IDLE_SECONDS": str(IDLE_S),
    "TURNSTILE_ARCHIVE_SECONDS": str(ARCHIVE_S),
    "TURNSTILE_ROTATE_TURNS": str(ROTATE_TURNS),
    "TURNSTILE_LINGER_SECONDS": "1",
    "TURNSTILE_TURN_RESERVE_USD": str(TURN_RESERVE_USD),
}
_LONGEST_PAUSE_S = 2.0 * ARCHIVE_S
_REFUSED_PAUSE_S = 2.0
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Speaker:
    """One conversation. `rests`: it pauses between its moves; `reuse`: it asks for the user's one session each
    time. `capped`: how the cap that may refuse its turns is named in a refusal, "" where none may."""

    session_id: str
    user_id: str
    mode: str = "interactive"
    rests: bool = False
    reuse: bool = False
    capped: str = ""

    def opening(self) -> dict[str, Any]:
        """The body of POST /v1/sessions."""
        body = {"session_id": self.session_id, "user_id": self.user_id, "mode": self.mode}
        return {**body, "reuse": "user"} if self.reuse else body

    def pause(self, dice: Random, *, refused: bool) -> float:
        """Seconds until the next move: a time in which nothing happens, it is idle, or it is archived."""
        if refused:
            return _REFUSED_PAUSE_S
        return dice.uniform(0.0, _LONGEST_PAUSE_S) if self.rests else 0.0


_USER, _SESSION = "chaos-capped", "chaos-capped-3"


def speakers(steady: int) -> list[Speaker]:
    """So many that never pause, and seven others: some rest, one asks for its user's session, one has jobs, three
    come to small caps."""
    found = [Speaker(f"chaos-{n:02d}", f"chaos-user-{n:02d}") for n in range(1, steady + 1)]
    by_user, by_session = f"in this month on user {_USER}", f"in all on session {_SESSION}"
    return [
        *found,
        Speaker("chaos-resting", "chaos-resting", rests=True),
        Speaker("chaos-reused", "chaos-reused", rests=True, reuse=True),
        Speaker("chaos-job", "chaos-job", mode="background"),
        Speaker("chaos-job-resting", "chaos-job", mode="background", rests=True),
        Speaker("chaos-capped-1", _USER, capped=by_user),
        Speaker("chaos-capped-2", _USER, capped=by_user),
        Speaker(_SESSION, "chaos-capped-too", capped=by_session),
    ]


def _cap(scope: Scope, who: str, period: Period, limit: int) -> Cap:
    return Cap(tenant_id=TENANT, scope=scope, who=who, period=period, limit=limit)


def generous() -> Sequence[Cap]:
    """Caps that must refuse nobody."""
    return [
        _cap("tenant", "", "all", 10_000 * _MILLION),
        _cap("tenant", "", "month", 10_000 * _MILLION),
        _cap("user", EACH, "month", 1_000 * _MILLION),
        _cap("session", EACH, "all", 1_000 * _MILLION),
    ]


def small(step: int) -> Sequence[Cap]:
    """Caps that refuse turns, as they stand after so many raises."""
    limit = round((0.08 + 0.03 * step) * _MILLION)
    return [_cap("user", _USER, "month", limit), _cap("session", _SESSION, "all", limit)]
