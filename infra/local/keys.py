"""The gateway's API keys: those of the environment, else one made at first start; and the key of its connect links,
made at each start."""

import os
import secrets
from dataclasses import dataclass, field

from infra.local.errors import StackError
from infra.local.settings import StackSettings

TENANT = "local"
# Not a secret: the simulator takes any key, the SDK insists on one.
SIMULATOR_KEY = "simulated-no-secret"


@dataclass(frozen=True, slots=True)
class Keys:
    """`pairs` as in TURNSTILE_API_KEYS; `made`: whether the stack made them itself; `connect` as in
    TURNSTILE_CONNECT_KEY, when the environment has none: links end with the stack."""

    pairs: str = field(repr=False)
    made: bool
    connect: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    @property
    def first(self) -> str:
        return self.pairs.split(",")[0].split(":")[0]

    @property
    def shown(self) -> str:
        """What may be printed: a key that came from outside stays there."""
        return self.first if self.made else "as-set-in-TURNSTILE_API_KEYS"

    @property
    def tenants(self) -> str:
        """The tenants of the keys, comma-separated, in order of appearance."""
        names = (pair.split(":")[1].strip() for pair in self.pairs.split(",") if pair.strip())
        return ",".join(dict.fromkeys(names))


def load_keys(settings: StackSettings) -> Keys:
    """The keys of this stack; makes and keeps one (readable by the owner only) if there is none.

    Raises StackError when TURNSTILE_API_KEYS is not made of `key:tenant` pairs.
    """
    if settings.api_keys:
        pairs = [pair.strip() for pair in settings.api_keys.split(",") if pair.strip()]
        if not pairs or any(not all(pair.split(":")[:2]) or ":" not in pair for pair in pairs):
            raise StackError("TURNSTILE_API_KEYS: key:tenant[:scope+scope] pairs are wanted")
        return Keys(pairs=settings.api_keys, made=False)
    path = settings.folders.keys_file
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(f"tsk_{secrets.token_hex(20)}:{TENANT}\n")
    return Keys(pairs=path.read_text().strip(), made=True)
