"""Whose the provider's things are: vaults, agents, environments, files, memory stores. The provider lets every
session of a workspace use all of them, so which tenant may name which is ours to keep (docs/decisions/0031).

The rule, here and nowhere else: what is another tenant's is not there. What is nobody's is everybody's where it is
an agent or an environment, and becomes the tenant's that names it first where it is anything else; or is not there
either, where the settings say so. What the settings name as defaults is everybody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from shared.clock import Clock
from shared.moment import rfc3339
from shared.session.references import Kind, Reference

Unbound = Literal["bind", "refuse"]
Scope = Literal["project", "tenant", "user"]
# As many as a request may name.
MOST_VAULTS = 50
# A thing of the provider's.
Thing = tuple[Kind, str]
SHARED: frozenset[Kind] = frozenset({"agent", "environment"})
# For so many seconds what was a tenant's is taken to be still, for so many things at most. Bindings do not move:
# they are only deleted.
FRESH_SECONDS = 10.0
MOST_FRESH = 10_000
# A session is of the project that its metadata names by this key.
PROJECT = "project"


class Binding(Struct, frozen=True, kw_only=True):
    """A thing and its tenant; of one project or one user of the tenant's, "" for all of them. `label` is what
    people call it, "" for one that was bound by being named; no secret."""

    kind: Kind
    id: str
    tenant_id: str
    project: str = ""
    user_id: str = ""
    label: str = ""
    created_at: str = ""


class Strange(Struct, frozen=True):
    """A reference to what is not there, for this tenant, and what is told of it."""

    reference: Reference
    words: str


# Of a tenant and what it refers to: the first that is not there for it. `Ownership.strange`.
AskStrange = Callable[[str, Sequence[Reference]], Awaitable[Strange | None]]


class Owners(Protocol):
    """The table of bindings. Raises Transient while the database is away."""

    async def owner(self, thing: Thing) -> str | None:
        """The tenant that a thing is bound to."""

    async def bind(self, binding: Binding) -> str:
        """Bind a thing that is bound to nobody; the tenant it is bound to then, committed when this returns. Of
        those who bind one at once, one wins."""


def verdict(
    owner: str | None, tenant_id: str, kind: Kind, unbound: Unbound
) -> Literal["ours", "bind", "strange"]:
    """What becomes of a reference of a tenant's to a thing of `owner`: None for nobody."""
    if owner is not None:
        return "ours" if owner == tenant_id else "strange"
    if unbound == "refuse":
        return "strange"
    return "ours" if kind in SHARED else "bind"


def is_for(vault: Binding, project: str, user_id: str) -> bool:
    """Whether the vault was made for sessions of this project and this user that name none."""
    ours = vault.project in ("", project) and vault.user_id in ("", user_id)
    return bool(vault.label) and ours


def vaults_for(
    bindings: Sequence[Binding], policy: Sequence[Scope], project: str, user_id: str
) -> tuple[str, ...]:
    """The vaults that a session has when it names none: of each scope of the policy, in its order, those that are
    for this project and this user, oldest first. Those that were bound by being named are nobody's choice."""
    fit = [one for one in bindings if is_for(one, project, user_id)]
    fit.sort(key=lambda one: (one.created_at, one.id))
    chosen = [one.id for scope in policy for one in fit if _scope(one) == scope]
    return tuple(chosen[:MOST_VAULTS])


def _scope(binding: Binding) -> Scope:
    return "user" if binding.user_id else "project" if binding.project else "tenant"


class Ownership:
    """Asks whose things are. `defaults` are those that the settings name; `released` says whether a name is that of
    an agent which the operator released for a tenant, or for everybody. Of the `absent` kinds the provider has
    none, so they are nobody's."""

    def __init__(
        self,
        owners: Owners,
        *,
        unbound: Unbound,
        defaults: Collection[Thing],
        clock: Clock,
        monotonic: Callable[[], float],
        released: Callable[[str, str], Awaitable[bool]] | None = None,
        absent: Collection[Kind] = (),
    ) -> None:
        self._owners = owners
        self._unbound: Unbound = unbound
        self._defaults = frozenset(defaults)
        self._clock = clock
        self._monotonic = monotonic
        self._released = released
        self._absent = frozenset(absent)
        self._fresh: dict[tuple[str, Thing], float] = {}

    async def strange(self, tenant_id: str, named: Sequence[Reference]) -> Strange | None:
        """The first reference to what is not the tenant's, None where all are. Raises Transient."""
        lacking = next((one for one in named if one.kind in self._absent), None)
        if lacking is not None:
            return Strange(lacking, f"this provider has no {_plural(lacking)}: leave it out")
        asked = dict.fromkeys((one.kind, one.id) for one in named)
        found = await asyncio.gather(*(self._is_ours(tenant_id, thing) for thing in asked))
        ours = {thing for thing, is_ours in zip(asked, found, strict=True) if is_ours}
        first = next((one for one in named if (one.kind, one.id) not in ours), None)
        return None if first is None else Strange(first, _words(first))

    async def _is_ours(self, tenant_id: str, thing: Thing) -> bool:
        if thing in self._defaults:
            return True
        kind, id = thing
        if not id.isprintable():  # no id of the provider's, and no text that every database takes
            return False
        now = self._monotonic()
        if self._fresh.get((tenant_id, thing), now) > now:
            return True
        said = verdict(await self._owners.owner(thing), tenant_id, kind, self._unbound)
        if said == "strange" and kind == "agent" and self._released is not None:
            return await self._released(tenant_id, id)
        if said == "bind":
            at = rfc3339(self._clock())
            binding = Binding(kind=kind, id=id, tenant_id=tenant_id, created_at=at)
            said = "ours" if await self._owners.bind(binding) == tenant_id else "strange"
        if said == "ours":
            self._remember((tenant_id, thing), now + FRESH_SECONDS)
        return said == "ours"

    def _remember(self, whose: tuple[str, Thing], until: float) -> None:
        self._fresh.pop(whose, None)
        while len(self._fresh) >= MOST_FRESH:
            del self._fresh[next(iter(self._fresh))]
        self._fresh[whose] = until


def _words(reference: Reference) -> str:
    return f"there is no {reference.kind.replace('_', ' ')} {reference.id!r}: see its id"


def _plural(reference: Reference) -> str:
    return f"{reference.kind.replace('_', ' ')}s"
