"""Fault rules, and which request meets which.

Rules are tried in order; each keeps its own count of the requests that match it, and the first one
that is due takes the request. A rule without `nth`, `every` or `probability` is always due.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from infra.simulator.chance import dice
from infra.simulator.errors import bad

Seconds = Annotated[float, Meta(ge=0, le=3600)]
Count = Annotated[int, Meta(ge=0)]
Code = Annotated[int, Meta(ge=400, le=599)]

STREAM_KINDS = ("cut", "reset", "truncate", "silent", "error_event", "bad_json", "duplicate")


class Match(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which requests a rule looks at. All that is given must hold."""

    method: str | None = None
    path: str | None = None  # a regular expression, searched in the path
    body: str | None = None  # likewise, in the request body
    session: dict[str, str] | None = None  # metadata the session must have
    nth: Annotated[int, Meta(ge=1)] | None = None  # only the nth of them
    every: Annotated[int, Meta(ge=1)] | None = None  # each nth of them
    probability: Annotated[float, Meta(ge=0, le=1)] | None = None
    times: Annotated[int, Meta(ge=1)] | None = None  # at most so often


class Fault(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What happens. `after` counts events on a stream before a stream fault sets in."""

    kind: Literal[
        "respond", "drop", "delay", "land_then_drop", "land_then_delay", "land_then_respond",
        "late_event", "cut", "reset", "truncate", "silent", "error_event", "bad_json", "duplicate",
    ]  # fmt: skip
    status: Code = 500
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "A fault was requested for this call."
    error_code: str | None = None
    error_type: str = "overloaded_error"  # of an `error_event`
    seconds: Seconds = 1.0
    after: Count = 0


class RuleBody(Struct, forbid_unknown_fields=True):
    """One rule as written in the file or posted."""

    fault: Fault
    match: Match = field(default_factory=Match)


class RulesBody(Struct, forbid_unknown_fields=True):
    rules: list[RuleBody]


_RULES = msgspec.json.Decoder(RulesBody)


def decode_rules(text: bytes) -> list[RuleBody]:
    """Raises ApiError 400 that names the wrong field; regular expressions are checked too."""
    try:
        rules = _RULES.decode(text).rules
        for rule in rules:
            re.compile(rule.match.path or "")
            re.compile((rule.match.body or "").encode())
    except (msgspec.DecodeError, re.error) as error:
        raise bad(f"fault rules: {error}") from None
    return rules


class Rule:
    """A rule at work: what it has seen and done."""

    def __init__(self, body: RuleBody, throw: Random) -> None:
        self.body = body
        self.seen = 0
        self.done = 0
        self._throw = throw
        self._path = re.compile(body.match.path or "")
        self._text = re.compile(body.match.body.encode()) if body.match.body else None

    @property
    def reads_body(self) -> bool:
        return self._text is not None

    def looks_at(self, method: str, path: str) -> bool:
        wanted = self.body.match.method
        return (wanted is None or wanted.upper() == method) and bool(self._path.search(path))

    def due(self, text: bytes, metadata: Mapping[str, str] | None) -> bool:
        """Whether a request it looks at meets the fault now; counts the request."""
        match = self.body.match
        if self._text is not None and not self._text.search(text):
            return False
        if match.session is not None and not match.session.items() <= (metadata or {}).items():
            return False
        self.seen += 1
        spent = match.times is not None and self.done >= match.times
        if spent or not self._lot(match):
            return False
        self.done += 1
        return True

    def _lot(self, match: Match) -> bool:
        if match.nth is not None and self.seen != match.nth:
            return False
        if match.every is not None and self.seen % match.every:
            return False
        return match.probability is None or self._throw.random() < match.probability


class Faults:
    """All rules of a simulator, in order."""

    def __init__(self, seed: int, rules: Sequence[RuleBody] = ()) -> None:
        self._seed = seed
        self.rules: list[Rule] = []
        self.add(rules)

    def add(self, rules: Sequence[RuleBody]) -> None:
        for body in rules:
            self.rules.append(Rule(body, dice("fault", self._seed, len(self.rules))))

    def replace(self, rules: Sequence[RuleBody]) -> None:
        self.rules.clear()
        self.add(rules)

    def candidates(self, method: str, path: str) -> list[Rule]:
        """The rules that look at such a request; empty for nearly all."""
        return [rule for rule in self.rules if rule.looks_at(method, path)]

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {**msgspec.to_builtins(rule.body), "seen": rule.seen, "done": rule.done}
            for rule in self.rules
        ]
