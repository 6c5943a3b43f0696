"""The script that a prompt asks for by name.

A prompt may hold `[[script: NAME key=value ...]]`; the last one in the text counts. Unknown names
and keys are refused when the message is sent, so that a typing error shows at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PATTERN = re.compile(r"\[\[script:([^\]\n]{0,200})\]\]")


@dataclass(frozen=True, slots=True)
class Directive:
    """A script by name with its numeric options, as written in the prompt."""

    name: str
    options: dict[str, float] = field(default_factory=dict)
    text: str = ""


def directive_in(text: str) -> Directive | None:
    """The last directive of `text`, or None. Raises ValueError that says what is wrong with it."""
    if "[[script:" not in text:  # nearly every prompt: skip the pattern
        return None
    found = _PATTERN.findall(text)
    if not found:
        return None
    words = found[-1].split()
    if not words:
        raise ValueError("the script directive names no script")
    return Directive(words[0], dict(_option(word) for word in words[1:]), found[-1])


def _option(word: str) -> tuple[str, float]:
    key, _, value = word.rstrip(",;").partition("=")
    try:
        return key, float(value or 1)
    except ValueError:
        raise ValueError(f"script option {key!r} wants a number, not {value!r}") from None
