"""A finding of an audit: one object each, its kind from a closed list."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Kind = Literal[
    # The archive against itself and against the head row.
    "missing_in_archive",
    "two_bodies_for_a_seq",
    "event_twice",
    # The archive against the provider's lists.
    "only_at_provider",
    "other_json",
    "wrong_order",
    "unknown_to_provider",
    "message_of_no_turn",
    "message_twice",
    # The inbox against the turns.
    "turn_lost",
    "turn_never_ended",
    "turn_ended_twice",
    "input_not_taken",
    "wrong_count",
    # The provider's sessions against the head rows.
    "orphan",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Finding:
    """`detail` is for people and never holds what somebody said. `fixed` says what `--fix` did about it."""

    kind: Kind
    tenant_id: str
    session_id: str
    detail: str
    turn_id: str = ""
    seq: int | None = None
    last_seq: int | None = None
    provider_event_id: str = ""
    provider_session_id: str = ""
    fixed: str = ""

    def as_json(self) -> dict[str, Any]:
        """Fields that say something."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)} | {
            "kind": self.kind
        }

    def line(self) -> str:
        """For a terminal."""
        where = f"{self.tenant_id}/{self.session_id}"
        names = ("turn_id", "seq", "last_seq", "provider_event_id", "provider_session_id")
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        said = [f"{name}={known[name]}" for name in names if known[name] not in ("", None)]
        words = [f"{self.kind:<20}", where, *said, self.detail]
        if self.fixed:
            words.append(f"[{self.fixed}]")
        return "  ".join(words)
