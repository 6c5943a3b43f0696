"""What went wrong, named by what the caller must do about it.

Five classes are all there is; anything else that is raised is a bug. Outcomes of a turn are events, not
exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping


class TurnstileError(Exception):
    """Base of every error that is raised on purpose."""


class Rejected(TurnstileError):
    """The caller asked for something that can't be done: report it, never try again.

    `reason` is a stable word (`unknown_tenant`), `field` the offending field or None, and the message says in words
    what to change. `extra` are further members of the problem that reports it.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        field: str | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.extra = dict(extra or {})


class Transient(TurnstileError):
    """Nothing is wrong with the request: try again later.

    `retry_after` is the other side's own wish in seconds, or None.
    """

    def __init__(self, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class Corrupt(TurnstileError):
    """Bytes that can't be understood: dead-letter them under `reason` and go on."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class WrongSetting(TurnstileError):
    """A process can't work as it is set, which only showed when it began: end it, and don't start it again so. The
    message names the variable."""


class Fenced(TurnstileError):
    """Somebody else holds the session now (a higher epoch): stop at once and write nothing more."""
