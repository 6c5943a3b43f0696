"""The simulated agent's reply to a prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

FIRST_WORDS = 8
FIRST_WORDS_CHARS = 80  # a prompt may be one endless word


def reply_to(prompt_text: str) -> str:
    """The final answer to `prompt_text`: two lines that no other prompt would get.

    Line one names the prompt (12 hex digits of its SHA-256, its length in code points), line two
    repeats its first words. Pure: the same text gives the same reply for every seed and script.
    """
    digest = hashlib.sha256(prompt_text.encode()).hexdigest()[:12]
    words = " ".join(prompt_text.split(None, FIRST_WORDS)[:FIRST_WORDS])[:FIRST_WORDS_CHARS]
    return f"answer to {digest} ({len(prompt_text)} chars)\nyou began: {words}"


def text_of(content: Iterable[Mapping[str, Any]]) -> str:
    """The text of a message: its text blocks joined by a newline; other blocks count for nothing."""
    return "\n".join(block["text"] for block in content if block.get("type") == "text")


def own_words(content: Iterable[Mapping[str, Any]]) -> str:
    """The last text block alone. Directives are read from here, so that a caller who puts older
    turns in front of a message as context does not play their scripts again. Empty if no text.
    """
    return next((b["text"] for b in reversed(list(content)) if b.get("type") == "text"), "")
