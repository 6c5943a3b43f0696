"""Texts that only this deployment opens again: AES-256-GCM under a key made of the deployment's and of what each
text is bound to. A text that was changed, or is bound to something else, does not open."""

from __future__ import annotations

import base64
import hmac
import os
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from shared.secret import read_secret, revealed

_NONCE = 12
_T = TypeVar("_T")


class Unsealed(Exception):
    """It is no text of ours, was changed, or is bound to something else."""


class Seals:
    """Seals structs with the deployment's key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def seal(self, value: Any, bound_to: str) -> str:
        """`value` as text for URLs and rows; it opens with `bound_to` alone."""
        plain = msgspec.json.encode(revealed(value))
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher(type(value), bound_to).encrypt(nonce, plain, None)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, text: str, kind: type[_T], bound_to: str) -> _T:
        """The `kind` that was sealed. Raises Unsealed."""
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
            plain = self._cipher(kind, bound_to).decrypt(raw[:_NONCE], raw[_NONCE:], None)
        except (ValueError, InvalidTag):
            raise Unsealed from None
        return msgspec.json.decode(plain, type=kind, dec_hook=read_secret)

    def _cipher(self, kind: type[Any], bound_to: str) -> Any:
        # Imported when first needed: many gateways never are asked to connect anything.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        about = f"turnstile connect 1\0{kind.__name__}\0{bound_to}"
        return AESGCM(hmac.digest(self._key, about.encode(), sha256))


def hashed(text: str) -> str:
    """What a row holds in place of a text that is nobody's business."""
    return sha256(text.encode()).hexdigest()
