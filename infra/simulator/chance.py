"""Ids and dice, drawn from the seed and never from the system."""

from __future__ import annotations

from random import Random

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
ID_CHARS = 22
ID_SPACE = 58**ID_CHARS


def dice(*key: object) -> Random:
    """A generator that depends on `key` alone (seed, session number, purpose, ...)."""
    return Random(":".join(str(part) for part in key))


class Ids:
    """Ids in the provider's form: a prefix, `01`, and 22 base58 characters; random, not sortable."""

    def __init__(self, *key: object) -> None:
        self.dice = dice("ids", *key)

    def new(self, prefix: str) -> str:
        """A fresh id such as `sevt_01Fe…` for the prefix `sevt`."""
        number = self.dice.randrange(ID_SPACE)
        chars = []
        for _ in range(ID_CHARS):
            number, digit = divmod(number, 58)
            chars.append(BASE58[digit])
        return f"{prefix}_01{''.join(chars)}"

    def event(self) -> str:
        return self.new("sevt")
