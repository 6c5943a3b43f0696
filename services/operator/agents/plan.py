"""What an apply would do: the folder and the lock against what the provider has. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from services.operator.agents.declared import FILE, HASH, MARKS, TENANT, Declared, Kind
from services.operator.agents.links import Linked, resolved, unknown_skills
from services.operator.agents.lock import Entry

Action = Literal["create", "update", "record", "unchanged", "blocked"]
WRITES: tuple[Action, ...] = ("create", "update", "record")


class Remote(Struct, frozen=True):
    """An agent in one of its versions, or an environment (version 0), as the provider has it. `body`: all of it."""

    kind: Kind
    id: str
    version: int
    body: Mapping[str, Any]

    @property
    def archived(self) -> bool:
        return self.body.get("archived_at") is not None

    @property
    def metadata(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.body.get("metadata") or {}
        return found


class Step(Struct, frozen=True):
    """What becomes of one file. `remote` is what is there now (None for `create`), `doubles` are ids that an
    interrupted apply made beside it, `why` is for the reader."""

    declared: Declared
    action: Action
    why: str
    remote: Remote | None = None
    doubles: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


class Wishes(Struct, frozen=True):
    """`adopt`: take over what has this name and is not in the lock. `force`: what was changed or archived at the
    provider meanwhile is overwritten or made anew."""

    tenant: str = ""
    adopt: bool = False
    force: bool = False


def steps(
    folder: Sequence[Declared],
    lock: Mapping[str, Entry],
    remote: Sequence[Remote],
    wishes: Wishes,
) -> list[Step]:
    """One step a file, in the order of the folder: those that others refer to come before them."""
    by_id = {one.id: one for one in remote}
    known = {file: Linked(entry.id) for file, entry in lock.items() if file.startswith("./skills/")}
    found = []
    for declared in folder:
        one = resolved(declared, known)
        step = _step(one, lock.get(one.file), by_id, wishes)
        if why := unknown_skills(one, known):
            step = Step(one, "blocked", why, step.remote)
        if step.remote is not None:
            changes = step.action == "update" and one.kind == "agent"
            known[one.file] = Linked(step.remote.id, step.remote.version + changes)
        found.append(step)
    return found


def gone(folder: Sequence[Declared], lock: Mapping[str, Entry]) -> list[str]:
    """Files of the lock that are no longer there: what they stood for stays at the provider."""
    ours = ("./agents/", "./environments/")
    files = {one.file for one in folder}
    return [file for file in lock if file not in files and file.startswith(ours)]


def same_as_file(found: Remote, one: Declared, tenant: str) -> bool:
    """Whether it was made from a file of this name for this tenant."""
    marks = (found.metadata.get(FILE), found.metadata.get(TENANT, ""))
    return found.kind == one.kind and marks == (one.file, tenant) and not found.archived


def oldest_first(found: Sequence[Remote]) -> list[Remote]:
    """Of several made from one file the oldest stays; everybody who looks agrees on that."""
    return sorted(found, key=lambda one: (str(one.body.get("created_at")), one.id))


def made_together(one: Remote, other: Remote) -> bool:
    """Whether they were made at the same moment, so that nobody knows which is the older one."""
    return one.body.get("created_at") == other.body.get("created_at")


def _step(one: Declared, entry: Entry | None, by_id: Mapping[str, Remote], wishes: Wishes) -> Step:
    if entry is None:
        return _unknown(one, list(by_id.values()), wishes)
    found = by_id.get(entry.id)
    if found is None or found.archived:
        how = "does not know it" if found is None else "has archived it"
        if wishes.force:
            return Step(one, "create", f"the provider {how}: made anew")
        fix = "--force makes it anew; or take the lock file of the right workspace"
        return Step(one, "blocked", f"the lock says {entry.id}, the provider {how}: {fix}", found)
    if FILE in found.metadata and found.metadata.get(TENANT, "") != wishes.tenant:
        return Step(one, "blocked", _others(found), found)
    changes = differences(one, found)
    if (
        found.version == entry.version
        and _hash(found) == entry.hash == one.hash
        and not (found.kind == "environment" and changes)
    ):
        return Step(one, "unchanged", "", found)
    return _known(one, entry, found, changes, wishes)


def _known(
    one: Declared, entry: Entry, found: Remote, changes: tuple[str, ...], wishes: Wishes
) -> Step:
    """It is there, and the lock, the file and the provider do not all agree."""
    applied = _hash(found) == one.hash
    # The update that the lock does not know of is this file's, where it made just the version after.
    ours = found.version == entry.version + 1 and entry.hash not in ("", one.hash)
    if applied and (not changes or ours):
        return Step(one, "record", "applied already: the lock is behind", found)
    if found.version == entry.version and _hash(found) == entry.hash and not applied:
        return Step(one, "update", "", found, changes=changes)
    if wishes.force or (wishes.adopt and not entry.hash):
        return Step(one, "update", "overwrites what was changed there", found, changes=changes)
    if not entry.hash:
        why = "the lock does not say what was applied (another tool wrote it): --adopt applies the file"
    else:
        versions = f"version {found.version}, and the lock knows {entry.version}"
        there = versions if found.version != entry.version else "changed"
        why = f"{found.id} is {there}: changed outside this folder. Pull the newest lock and files, or --force"
    return Step(one, "blocked", why, found, changes=changes)


def _others(found: Remote) -> str:
    """An apply for somebody else would give a tenant's agent away, or take everybody's from them."""
    whose = found.metadata.get(TENANT)
    if whose:
        return f"{found.id} is tenant {whose}'s: say --tenant {whose}"
    return f"{found.id} is everybody's: leave --tenant out"


def _unknown(one: Declared, remote: Sequence[Remote], wishes: Wishes) -> Step:
    """The lock does not have it: it is new, an apply was interrupted, or somebody else made one."""
    made = oldest_first([found for found in remote if same_as_file(found, one, wishes.tenant)])
    if made:
        first, doubles = made[0], tuple(found.id for found in made[1:])
        if doubles and made_together(first, made[1]):
            ids = f"{first.id} and {made[1].id}"
            why = f"{ids} were made from this file at the same moment: archive the one that no lock has"
            return Step(one, "blocked", why, first)
        changes = differences(one, first)
        if _hash(first) == one.hash and not changes:
            return Step(one, "record", "made already: the lock is behind", first, doubles)
        if wishes.adopt or wishes.force:
            return Step(one, "update", "taken over", first, doubles, changes)
        fix = "pull the newest lock, or --adopt takes it over"
        why = f"{first.id} was made from this file, and the lock does not have it: {fix}"
        return Step(one, "blocked", why, first, changes=changes)
    named = _named_alike(one, remote, wishes)
    if not named:
        return Step(one, "create", "")
    if wishes.adopt and len(named) == 1:
        return Step(one, "update", "taken over", named[0], changes=differences(one, named[0]))
    ids = ", ".join(found.id for found in named)
    if wishes.adopt or one.kind == "environment":
        words = "give the file another name" if wishes.adopt else "--adopt takes it over"
        return Step(one, "blocked", f"{ids} has the name {one.body['name']!r} already: {words}")
    return Step(one, "create", f"beside {ids}, which has the same name (--adopt takes one over)")


def _named_alike(one: Declared, remote: Sequence[Remote], wishes: Wishes) -> list[Remote]:
    """Made by hand, or by another tool; names of environments are unique, archived ones included."""
    return [
        found
        for found in remote
        if found.kind == one.kind
        and found.body.get("name") == one.body["name"]
        and FILE not in found.metadata
        and not found.archived
    ]


def _hash(found: Remote) -> str:
    return found.metadata.get(HASH, "")


def differences(one: Declared, found: Remote) -> tuple[str, ...]:
    """The fields in which what is there differs from the file, as far as the file says something."""
    there = comparable(one.body, found.body)
    return tuple(name for name in one.body if there[name] != one.body[name])


def comparable(body: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """What is there, as a file would say it: without what the provider filled in by itself, without our marks."""
    shown = {name: _projected(there.get(name), value) for name, value in body.items()}
    metadata = there.get("metadata") or {}
    shown["metadata"] = {key: value for key, value in metadata.items() if key not in MARKS}
    if body.get("execution_identity", 0) is None:
        shown["execution_identity"] = None  # the provider fills in its default
    return shown


def _projected(there: Any, like: Any) -> Any:
    """`there` with the fields that `like` has; whole where they are of different shapes."""
    if isinstance(like, str) and isinstance(there, Mapping) and "id" in there:
        return there["id"]  # a model given by its id alone
    if isinstance(like, Mapping) and isinstance(there, Mapping):
        return {key: _projected(there.get(key), value) for key, value in like.items()}
    if isinstance(like, list) and isinstance(there, list) and len(like) == len(there):
        return [_projected(one, other) for one, other in zip(there, like, strict=True)]
    if isinstance(like, str) and isinstance(there, Mapping) and there.get("type") == like:
        return like  # an effort given by its name
    return there
