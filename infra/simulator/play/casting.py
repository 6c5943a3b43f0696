"""Chooses the plan for a prompt: by the seed and the prompt, or by the script that the prompt names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from infra.simulator.chance import dice
from infra.simulator.directive import Directive, directive_in
from infra.simulator.errors import bad
from infra.simulator.play.plan import Plan
from infra.simulator.play.scripts import COMMON_OPTIONS, OPTIONS, SCRIPTS, Brief, outcome
from infra.simulator.reply import own_words, text_of

Content = Sequence[Mapping[str, Any]]
OUTCOME = outcome.__name__


class Casting:
    """Chooses scripts for one simulator. `mix` gives the weight of each script without directive."""

    def __init__(self, seed: int, mix: Mapping[str, int]) -> None:
        self._seed = seed
        self._names = list(mix)
        self._weights = list(mix.values())
        self._played: Counter[str] = Counter()

    def check_outcome(self, description: str) -> None:
        """Likewise for what a client wants to be worked towards."""
        directive = self._directive(description)
        if directive is not None and directive.name != OUTCOME:
            raise bad(f"simulator directive: an outcome takes the script {OUTCOME} only")
        if directive is not None:
            _known(directive, {OUTCOME})

    def check(self, content: Content) -> None:
        """Raises ApiError 400 where the message holds a directive that cannot be followed."""
        directive = self._directive(own_words(content))
        if directive is not None:
            _known(directive, SCRIPTS)

    def _directive(self, text: str) -> Directive | None:
        try:
            return directive_in(text)
        except ValueError as error:
            raise bad(f"simulator directive: {error}") from None

    def plan(self, content: Content, *, again: bool = False) -> Plan:
        """The plan for a message that passed `check`. `again`: it is looked at in the middle of being played.

        A directive with `times=n` is followed the first n times that very text is played; after
        that the text gets a plain reply, so that a caller's retry can succeed.
        """
        own = own_words(content)
        directive = directive_in(own)
        if directive is None:
            throw = dice("script", self._seed, own)
            name = throw.choices(self._names, self._weights)[0]
            return SCRIPTS[name](Brief(text_of(content), throw))
        self._played[own] += not again
        name = directive.name
        if self._played[own] > directive.options.get("times", float("inf")):
            name = "reply"
        throw = dice("script", self._seed, own)
        plan = SCRIPTS[name](Brief(text_of(content), throw, directive.options))
        return _directed(plan, directive)

    def outcome_plan(self, asked: Mapping[str, Any]) -> Plan:
        """Work towards a `user.define_outcome`, and its evaluations, by the script in its description, if any."""
        description = str(asked["description"])
        directive = directive_in(description)
        options = directive.options if directive else {}
        brief = Brief(description, dice("script", self._seed, description), options)
        made = outcome(brief, str(asked["outcome_id"]), int(asked["max_iterations"]))
        return _directed(made, directive) if directive else made


def _directed(plan: Plan, directive: Directive) -> Plan:
    given = directive.options
    return replace(
        plan,
        hold=int(given.get("hold", 0)),
        patience=given.get("patience", plan.patience),
        late=bool(given.get("late", 0)),
        cut=bool(given.get("cut", 0)),
        cache=bool(given.get("cache", 0)),
        pace=given.get("pace"),
    )


def _known(directive: Directive, scripts: Collection[str]) -> None:
    if directive.name not in scripts:
        raise bad(
            f"simulator directive: no script {directive.name!r}; there are {', '.join(scripts)}"
        )
    allowed = OPTIONS.get(directive.name, frozenset()) | COMMON_OPTIONS
    for key in directive.options:
        if key not in allowed:
            raise bad(
                f"simulator directive: {directive.name} has no option {key!r}; it has {', '.join(sorted(allowed))}"
            )
