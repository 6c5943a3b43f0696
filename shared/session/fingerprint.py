"""The fingerprint by which a message is known again: its last text, of an outcome its rubric, white space left out.
The provider keeps that as it was sent, whatever it adds around it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import Raw


def fingerprint(content: Any) -> str:
    """Of a message's content, a text or blocks; empty when the last block is no text: then nothing can be told."""
    last = content[-1] if isinstance(content, list) and content else content
    if isinstance(last, dict):
        rubric = last.get("rubric")
        text = (
            (rubric.get("content") or rubric.get("file_id"))
            if isinstance(rubric, dict)
            else last.get("text")
        )
    else:
        text = last
    if not isinstance(text, str):
        return ""
    return hashlib.blake2s(
        "".join(text.split()).encode("utf-8", "replace"), digest_size=8
    ).hexdigest()


def fingerprint_of(raw: bytes | Raw) -> str:
    """Of the content of a provider's message."""
    try:
        message = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return ""
    if not isinstance(message, dict):
        return ""
    return fingerprint([message] if "rubric" in message else message.get("content"))
