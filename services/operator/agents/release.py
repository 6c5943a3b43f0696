"""How a release changes: put forward, pinned, given a canary, rolled back. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from services.operator.failures import Impossible
from shared.session.releases import Release


def put_forward(
    old: Release | None, tenant: str, name: str, agent: str, version: int, share: int
) -> Release:
    """The release once `version` was applied: pinned, or the canary of `share` percent of sessions (0: none).

    What was put forward before stays as it is: applying the same files again does not undo a rollback. The first
    version of an agent is pinned, since there is none to compare a canary with.
    """
    if old is None or old.agent_id != agent:
        edition = old.edition if old else 0
        return Release(
            tenant_id=tenant,
            name=name,
            agent_id=agent,
            pinned=version,
            released=version,
            edition=edition,
        )
    if old.released == version:
        return old
    new = replace(old, released=version)
    return with_canary(new, version, share) if share else pinned(new, version)


def pinned(old: Release, version: int) -> Release:
    """All new provider sessions get `version`; the canary, if there is one, ends."""
    if old.pinned == version:
        return replace(old, canary=0, share=0)
    return replace(old, pinned=version, previous=old.pinned, canary=0, share=0)


def with_canary(old: Release, version: int, share: int) -> Release:
    """`share` percent of sessions get `version`. Raises Impossible for the one that is pinned."""
    if version == old.pinned:
        raise Impossible(f"version {version} of {old.name} is pinned: all sessions get it")
    return replace(old, canary=version, share=share)


def rolled_back(old: Release) -> Release:
    """The canary ends; where there is none the version before is pinned again. Raises Impossible when there is
    nothing to go back to."""
    if old.canary:
        return replace(old, canary=0, share=0)
    if not old.previous:
        raise Impossible(
            f"{old.name} has had no version but {old.pinned}: pin one with `turnstile agents pin`"
        )
    return replace(old, pinned=old.previous, previous=old.pinned)


def told(release: Release) -> str:
    """The release in words."""
    if release.canary:
        return f"version {release.pinned}, and version {release.canary} for {release.share} % of sessions"
    return f"version {release.pinned}"
