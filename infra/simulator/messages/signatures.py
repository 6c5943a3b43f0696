"""Signatures of thinking blocks: what says that the model thought so, which model, and behind which prompt."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

_KEY = b"the simulator's own"
_FIELDS = 5


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature says. `prefix`: the digest of the prompt before the block; `characters`: how long the
    thinking was, shown or not."""

    model: str
    prefix: str
    characters: int
    shown: str  # the digest of the text that came with it


def sign(model: str, prefix: str, thought: str, shown: str) -> str:
    """The signature of a block that says `shown` of the thinking `thought`."""
    text = "|".join((model, prefix, str(len(thought)), _digest(shown)))
    return base64.b64encode(f"{text}|{_seal(text)}".encode()).decode()


def read(signature: str) -> Signed | None:
    """What it says, or None if it is none of ours."""
    try:
        fields = base64.b64decode(signature, validate=True).decode().split("|")
    except (binascii.Error, UnicodeDecodeError):
        return None
    if len(fields) != _FIELDS or _seal("|".join(fields[:-1])) != fields[-1]:
        return None
    return Signed(fields[0], fields[1], int(fields[2]), fields[3])


def vouches(signature: str, thinking: str) -> bool:
    """Whether it is the signature of a block with exactly this text."""
    signed = read(signature)
    return signed is not None and signed.shown == _digest(thinking)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _seal(text: str) -> str:
    return hashlib.blake2b(text.encode(), key=_KEY, digest_size=16).hexdigest()
