"""Request limits by the minute, creates and reads apart; off by default."""

from __future__ import annotations

from infra.simulator.errors import ApiError

PER_MINUTE = {"create": 300, "read": 1200}


class Bucket:
    """A token bucket: `rate` a minute, as many at once."""

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._at = now

    def take(self, now: float) -> float:
        """Seconds until a token is there; 0 means one was taken."""
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate / 60)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) * 60 / self._rate


class Limits:
    """The two buckets of an organization. A POST that makes something counts as create, a GET as
    read; sends are not counted, which bucket they belong to is not known, nor are messages: theirs is another.
    """

    def __init__(self, now: float) -> None:
        self._buckets = {name: Bucket(rate, now) for name, rate in PER_MINUTE.items()}

    def check(self, method: str, path: str, now: float) -> None:
        """Raises ApiError 429 with `retry-after` in whole seconds."""
        kind = "read" if method == "GET" else "create" if _makes(path) else None
        if kind is None:
            return
        wait = self._buckets[kind].take(now)
        if wait:
            seconds = str(int(wait) + 1)
            raise ApiError(
                429, f"rate limit of {kind} requests reached", headers={"retry-after": seconds}
            )


def _makes(path: str) -> bool:
    return path.count("/") == 2 and path != "/v1/messages"
