"""The life of a turn, as data: (status before, event) -> status after. The picture in the docs is drawn from it."""

from __future__ import annotations

from shared.session.events import TurnStatus

# None: the session had not heard of the turn.
TRANSITIONS: dict[tuple[TurnStatus | None, str], TurnStatus] = {
    (None, "turn.accepted"): "accepted",
    (
        None,
        "turn.refused",
    ): "refused",  # busy and asked not to wait, or the session takes no more turns
    ("accepted", "turn.reserved"): "accepted",  # a cap counts for it, and enough is left
    ("accepted", "turn.started"): "running",
    ("accepted", "turn.requires_action"): "requires_action",  # the budget was used up before it
    ("accepted", "turn.retrying"): "accepted",  # no provider session could be had yet
    ("accepted", "turn.interrupted"): "interrupted",  # while it waited for its next attempt
    ("accepted", "turn.refused"): "refused",  # the session was closed while the turn waited
    ("accepted", "turn.failed"): "failed",
    ("running", "turn.started"): "running",  # the next attempt
    ("running", "turn.retrying"): "running",
    ("running", "turn.requires_action"): "requires_action",
    ("running", "turn.stalled"): "running",
    ("accepted", "turn.overdue"): "accepted",  # a provider session was being made for it
    ("running", "turn.overdue"): "running",
    ("running", "turn.completed"): "completed",
    ("running", "turn.interrupted"): "interrupted",
    ("running", "turn.refused"): "refused",
    ("running", "turn.failed"): "failed",
    ("requires_action", "session.status_running"): "running",
    ("requires_action", "turn.requires_action"): "requires_action",
    ("requires_action", "turn.unanswered"): "requires_action",
    ("requires_action", "turn.reserved"): "requires_action",
    ("requires_action", "turn.retrying"): "running",
    ("requires_action", "turn.started"): "running",
    ("requires_action", "turn.overdue"): "requires_action",
    ("requires_action", "turn.completed"): "completed",
    ("requires_action", "turn.interrupted"): "interrupted",
    ("requires_action", "turn.refused"): "refused",
    ("requires_action", "turn.failed"): "failed",
}


class IllegalTransition(Exception):
    """A turn was asked to do what its status does not allow: always a bug of ours."""


def after(status: TurnStatus | None, event_type: str) -> TurnStatus:
    """The status after `event_type`. Raises IllegalTransition for a pair that is not in the table."""
    try:
        return TRANSITIONS[status, event_type]
    except KeyError:
        raise IllegalTransition(f"{event_type} is not possible in status {status}") from None
