"""Keeps secrets out of text: their values are replaced, in the forms in which they get into text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from urllib.parse import quote

MASK = "***"
# A shorter value would be found inside ordinary words, and is no secret.
MIN_LENGTH = 4


class Scrubber:
    """Replaces known secrets in a text: as they are, as JSON writes them, and as a URL does."""

    def __init__(self, secrets: Sequence[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= MIN_LENGTH for form in _forms(secret)}
        # Longest first, so that one secret inside another leaves nothing of the longer one behind.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text


def _forms(secret: str) -> set[str]:
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret, safe=""),
    }
