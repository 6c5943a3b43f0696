"""What a request refers to at the provider, by id: things that belong to somebody.

Pure: a request in, its references out. Whose they are is asked elsewhere (`shared/ownership.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from shared.session.content import File
from shared.session.inputs import Request, SessionRequested, ToolAnswered, TurnRequested
from shared.session.outcome import FileRubric, Outcome
from shared.session.resources import FileResource, MemoryResource, Resource

Kind = Literal["vault", "agent", "environment", "file", "memory_store"]


class Reference(Struct, frozen=True):
    """A thing of the provider's, and the field that names it (`vault_ids[0]`)."""

    kind: Kind
    id: str
    field: str


def references(request: Request) -> tuple[Reference, ...]:
    """All that a request refers to; nothing, at no cost, where it names no id."""
    if isinstance(request, TurnRequested):
        return (*of_agent(request.agent), *of_turn(request.content, request.outcome))
    if isinstance(request, ToolAnswered):
        return of_content(request.content)
    if isinstance(request, SessionRequested):
        return of_session(request.agent, request.vault_ids, request.resources)
    return ()


def of_session(
    agent: str | None,
    vault_ids: Sequence[str] | None,
    resources: Sequence[Resource] | UnsetType | None,
) -> tuple[Reference, ...]:
    """What a session is made of, where somebody named it."""
    vaults = (
        Reference("vault", id, f"vault_ids[{place}]") for place, id in enumerate(vault_ids or ())
    )
    return (*of_agent(agent), *vaults, *_of_resources(resources or ()))


def _of_resources(resources: Sequence[Resource]) -> Iterator[Reference]:
    """Repositories are GitHub's, and nobody's here."""
    for place, one in enumerate(resources):
        if isinstance(one, FileResource):
            yield Reference("file", one.file_id, f"resources[{place}].file_id")
        elif isinstance(one, MemoryResource):
            field = f"resources[{place}].memory_store_id"
            yield Reference("memory_store", one.memory_store_id, field)


def pinned(agent: str) -> tuple[str, int | None]:
    """`ID` is the agent's newest version, `ID@7` its seventh."""
    id, at, version = agent.rpartition("@")
    return (id, int(version)) if at and version.isdecimal() else (agent, None)


def of_agent(agent: str | None) -> tuple[Reference, ...]:
    """The agent, whatever its version."""
    return () if agent is None else (Reference("agent", pinned(agent)[0], "agent"),)


def of_turn(content: Any, outcome: Outcome | UnsetType) -> tuple[Reference, ...]:
    """The files in what a turn says or asks for."""
    if outcome is UNSET:
        return of_content(content)
    rubric = outcome.rubric
    if not isinstance(rubric, FileRubric):
        return ()
    return (Reference("file", rubric.file_id, "outcome.rubric.file_id"),)


def of_content(content: Any) -> tuple[Reference, ...]:
    """The files in the content of a turn or of a tool's result: a text, or blocks that were checked (`content.py`),
    as structs or as JSON values."""
    return () if isinstance(content, str) else tuple(_files(content))


def _files(blocks: Sequence[Any]) -> Iterator[Reference]:
    for place, block in enumerate(blocks):
        source = block.get("source") if isinstance(block, dict) else getattr(block, "source", None)
        if isinstance(source, dict):
            id = source.get("file_id")
        else:
            id = source.file_id if isinstance(source, File) else None
        if id is not None:
            yield Reference("file", id, f"content[{place}].source.file_id")
