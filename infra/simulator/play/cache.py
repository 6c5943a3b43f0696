"""The prompt cache of one session, for turns that ask for it (`cache=1`): by the agent's own system prompt.

A prompt is the system prompt, all earlier turns, and what is new. From the model's minimum on it is written to the
cache, and the next one reads as much as was written; a shorter one is never cached. `UNKNOWN` is the minimum of a
model that has none in the rows.
"""

from __future__ import annotations

from infra.simulator.play.usage import Tokens
from shared import cache_minimum

UNKNOWN = 1_024
DAY = "9999-12-31"  # the newest rows
MINIMUMS = cache_minimum.load()


class PromptCache:
    """What the next request finds."""

    def __init__(self, model: str, system: str) -> None:
        row = MINIMUMS.find(model, DAY)
        self._minimum = row.tokens if row is not None and row.tokens is not None else UNKNOWN
        self._prompt = cache_minimum.estimated(system).tokens
        self._written = 0

    def request(self, fresh: int, output: int) -> Tokens:
        """The tokens of a request with so many new ones, and so many in its answer."""
        self._prompt += fresh
        caches = self._prompt >= self._minimum
        read = self._written if caches else 0
        written = self._prompt - read if caches else 0
        tokens = Tokens(
            fresh=0 if caches else self._prompt,
            output=output,
            cache_read=read,
            cache_write=written,
        )
        self._written = self._prompt if caches else 0
        self._prompt += output
        return tokens
