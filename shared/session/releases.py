"""Which version of an agent a session gets, where sessions name the agent by its release. Pure."""

from __future__ import annotations

import hashlib

from msgspec import Struct

from shared.session.key import SessionKey

_WHOLE = 1 << 64


class Release(Struct, frozen=True, kw_only=True):
    """What the agent called `name` is. `tenant_id` is "" for one that is everybody's.

    New provider sessions get version `pinned`; `share` percent of sessions get `canary` instead (0: there is none).
    `previous` was pinned before, `released` is what was put forward last; 0: none. `edition` counts changes.
    """

    tenant_id: str
    name: str
    agent_id: str
    pinned: int
    previous: int = 0
    canary: int = 0
    share: int = 0
    released: int = 0
    edition: int = 0


def version_for(release: Release, session: SessionKey) -> int:
    """The version for a session: always the same one, as long as the release is. Of many sessions `share` percent
    get the canary, and another canary has other ones."""
    if not release.canary:
        return release.pinned
    said = "/".join((*session, release.agent_id, str(release.canary)))
    place = int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big")
    return release.canary if place * 100 < release.share * _WHOLE else release.pinned
