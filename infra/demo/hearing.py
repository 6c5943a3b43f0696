"""What of an agent's messages has been shown: previews first, then the message itself.

Previews come on a way of their own: they may stop in the middle, or arrive after the message they
belong to. The message is what counts; previews only show it earlier.
"""

from typing import Any


class Hearing:
    """Follows the messages of one session; each method returns the text to show now."""

    def __init__(self) -> None:
        self._heard: dict[str, str] = {}
        self._block: dict[str, int] = {}
        self._over: set[str] = set()

    def preview(self, data: dict[str, Any]) -> str:
        """A delta's text; empty for what is no text, and for a message that is known in full."""
        message, delta = str(data.get("event_id") or ""), data.get("delta") or {}
        text = str((delta.get("content") or {}).get("text") or "")
        if not text or message in self._over:
            return ""
        block = int(delta.get("index") or 0)
        if block != self._block.setdefault(message, block):
            self._block[message] = block
            text = "\n" + text
        self._heard[message] = self._heard.get(message, "") + text
        return text

    def message(self, data: dict[str, Any]) -> str:
        """What the previews did not show of a message; all of it, on a new line, if they differ."""
        identity, text = str(data.get("id") or ""), message_text(data)
        heard = self._heard.pop(identity, "")
        self._over.add(identity)
        return text[len(heard) :] if text.startswith(heard) else f"\n{text}"


def message_text(data: dict[str, Any]) -> str:
    """The text blocks of a message, joined by newlines."""
    blocks = data.get("content") or []
    return "\n".join(block["text"] for block in blocks if block.get("type") == "text")
