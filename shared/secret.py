"""Secrets that come in with a request and go to the provider, and nowhere else: a type that shows nothing and can't
be written, and a check of words that somebody else says about one.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn
from urllib.parse import quote

import msgspec

MASK = "***"
MOST = 65_536
# So many characters of a secret in a row are taken for it: services quote the beginning or the end of what they
# refuse.
TELLING = 6


class Secret:
    """A text that prints as ***. It can't be encoded, pickled or formatted; `reveal` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for who sends it on."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # no key of a dict that somebody prints

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


def read_secret(kind: type[Any], value: Any) -> Any:
    """The `dec_hook` of decoders of types with a Secret. Raises ValueError that says nothing of the value."""
    if kind is not Secret:
        raise NotImplementedError
    if not isinstance(value, str):
        raise ValueError("Expected `str`")
    if not value or value.isspace() or len(value) > MOST:
        raise ValueError(f"must be 1 to {MOST} characters and more than white space")
    return Secret(value)


def revealed(value: Any) -> Any:
    """`value` as JSON values with the secrets in them: for the request that carries them."""
    return msgspec.to_builtins(value, enc_hook=_reveal)


def secrets_in(value: Any) -> list[str]:
    """The secrets that a struct holds, whatever is around them."""
    found: list[str] = []

    def note(secret: Any) -> str:
        found.append(_reveal(secret))
        return MASK

    msgspec.to_builtins(value, enc_hook=note)
    return found


def safe_words(words: str, secrets: Sequence[str]) -> str:
    """What somebody else says, unless it may hold a part of one of these secrets in any of the usual spellings."""
    said = words.casefold()
    for secret in secrets:
        if any(part in said for form in _forms(secret) for part in _parts(form.casefold())):
            return "it repeats a part of a secret, and is left out here"
    return words


def _reveal(value: Any) -> str:
    if not isinstance(value, Secret):
        raise NotImplementedError
    return value.reveal()


def _parts(form: str) -> Iterator[str]:
    """All pieces of TELLING characters; a shorter form is one piece."""
    for start in range(max(1, len(form) - TELLING + 1)):
        yield form[start : start + TELLING]


def _forms(secret: str) -> Iterator[str]:
    """As it is, in JSON, in a URL, in hex, and in base64 wherever it begins."""
    raw = secret.encode()
    yield secret
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="")
    yield raw.hex()
    for before in range(3):
        # The characters at either end depend on what stands beside the secret.
        whole = base64.b64encode(b"\0" * before + raw).decode()
        inner = whole[4 if before else 0 : -4] or whole
        yield inner
        yield inner.translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")
