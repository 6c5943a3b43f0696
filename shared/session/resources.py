"""What a session has beside its agent: files, repositories and memory stores, in the provider's own shape.

Shapes are those of the SDK's `sessions.create` parameters, less a repository's `authorization_token`: it is a
secret, and nothing here keeps one. Whoever takes resources from outside, over HTTP or from Kafka, asks here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.session.content import FileId

# They are kept with the session, so fewer files than the provider would mount (999).
MAX_RESOURCES = 100
# The provider's limits.
MAX_STORES, MAX_INSTRUCTIONS = 8, 4096
UPLOADS, WORKSPACE = "/mnt/session/uploads", "/workspace"
# What is checked below is told to those who read the schemas, as nearly as they can say it.
MountPath = Annotated[
    str, Meta(min_length=1, max_length=1024, extra_json_schema={"pattern": r"^(/[^/]+)+$"})
]
RepositoryUrl = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=512,
        description="Without user, password, query and fragment",
        extra_json_schema={
            "pattern": r"^https://[A-Za-z0-9.-]+(:[0-9]+)?/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/?$"
        },
    ),
]
CommitSha = Annotated[
    str,
    Meta(min_length=1, extra_json_schema={"pattern": "^([0-9a-fA-F]{40}|[0-9a-fA-F]{64})$"}),
]
StoreId = Annotated[str, Meta(min_length=1, max_length=256)]
_REPOSITORY = re.compile(r"https://[A-Za-z0-9.-]+(?::\d+)?/[\w.-]+/([\w.-]+?)(?:\.git)?/?", re.A)
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.I)


class _Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True): ...


class FileResource(_Shape, frozen=True, kw_only=True, tag_field="type", tag="file"):
    """A file of the provider's; without a `mount_path` it is below `/mnt/session/uploads`, by its id."""

    file_id: FileId
    mount_path: MountPath | None = None


class Branch(_Shape, frozen=True, kw_only=True, tag_field="type", tag="branch"):
    """A branch, by its name."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]


class Commit(_Shape, frozen=True, kw_only=True, tag_field="type", tag="commit"):
    """`sha`: the whole one."""

    sha: CommitSha


class RepositoryResource(
    _Shape, frozen=True, kw_only=True, tag_field="type", tag="github_repository"
):
    """A public repository on GitHub; without a `mount_path` it is below `/workspace`, by its name."""

    url: RepositoryUrl
    checkout: Branch | Commit | None = None
    mount_path: MountPath | None = None


class MemoryResource(_Shape, frozen=True, kw_only=True, tag_field="type", tag="memory_store"):
    """A memory store of the provider's. `access` is `read_write` if left out; `instructions` tell the agent how to
    use it."""

    memory_store_id: StoreId
    access: Literal["read_write", "read_only"] | None = None
    instructions: Annotated[str, Meta(max_length=MAX_INSTRUCTIONS)] | None = None


Resource = FileResource | RepositoryResource | MemoryResource
Resources = Annotated[list[Resource], Meta(max_length=MAX_RESOURCES)]


def require_resources(resources: Sequence[Resource] | UnsetType | None) -> None:
    """Raise ValidationError naming the field (`$.resources[0].mount_path`) unless a session may have these, whose
    types were checked. Says nothing of what an address was: it may hold a secret."""
    if not resources:
        return
    for place, one in enumerate(resources):
        _require_sense(one, f"resources[{place}]")
    stores = [one.memory_store_id for one in resources if isinstance(one, MemoryResource)]
    if len(stores) > MAX_STORES:
        raise _wrong(f"may have {MAX_STORES} memory stores", "resources")
    _require_apart(resources)


def _require_sense(one: Resource, field: str) -> None:
    if isinstance(one, MemoryResource):
        return
    if one.mount_path is not None and not _is_path(one.mount_path):
        raise _wrong(
            "must be an absolute path like /workspace/data.csv: no empty part, no . or .., "
            "no character that can't be seen",
            f"{field}.mount_path",
        )
    if isinstance(one, RepositoryResource):
        if _name(one.url) in ("", ".", ".."):
            raise _wrong(
                "must be like https://github.com/OWNER/NAME, and nothing else", f"{field}.url"
            )
        checkout = one.checkout
        if isinstance(checkout, Commit) and _SHA.fullmatch(checkout.sha) is None:
            raise _wrong("must be a commit's whole SHA, in hex", f"{field}.checkout.sha")


def _require_apart(resources: Sequence[Resource]) -> None:
    """No two at one path, none below a file, no memory store twice."""
    paths = [None if isinstance(one, MemoryResource) else path_of(one) for one in resources]
    files = {
        path for one, path in zip(resources, paths, strict=True) if isinstance(one, FileResource)
    }
    there: Counter[str] = Counter()
    for place, (one, path) in enumerate(zip(resources, paths, strict=True)):
        if isinstance(one, MemoryResource):
            key, field = f"store {one.memory_store_id}", "memory_store_id"
            words = "is there twice: leave one of them out"
        else:
            key, field = f"path {path}", "mount_path"
            words = f"{path} is taken by another of the resources: mount it elsewhere"
        there[key] += 1
        below = path is not None and any(path.startswith(f"{file}/") for file in files)
        if there[key] > 1 or below:
            raise _wrong(words, f"resources[{place}].{field}")


def _is_path(path: str) -> bool:
    parts = path.split("/")
    return parts[0] == "" and path.isprintable() and not {"", ".", ".."} & set(parts[1:])


def _name(url: str) -> str:
    """The repository's name, "" for an address that is none."""
    found = _REPOSITORY.fullmatch(url)
    return found[1] if found else ""


def path_of(one: FileResource | RepositoryResource) -> str:
    """Where it is in the session's container: where it was asked to be, else where the provider puts it."""
    if one.mount_path is not None:
        return one.mount_path
    if isinstance(one, FileResource):
        return f"{UPLOADS}/{one.file_id}"
    return f"{WORKSPACE}/{_name(one.url)}"


def used(resources: Sequence[Resource], content: Any) -> tuple[Resource, ...]:
    """What a turn is given: the session's resources with their paths, less the instructions for memory, and the
    files that its content names, which have no path. `content` as the core has it: a text, or blocks as JSON
    values, of which an outcome is one."""
    mounted = [
        msgspec.structs.replace(one, instructions=None)
        if isinstance(one, MemoryResource)
        else msgspec.structs.replace(one, mount_path=path_of(one))
        for one in resources
    ]
    named = [FileResource(file_id=id) for id in dict.fromkeys(_files(content))]
    return (*mounted, *named)


def _files(content: Any) -> list[str]:
    if isinstance(content, str) or content is UNSET:
        return []
    sources = (block.get("source", block.get("rubric")) for block in content)
    return [
        source["file_id"] for source in sources if isinstance(source, dict) and "file_id" in source
    ]


def _wrong(words: str, field: str) -> msgspec.ValidationError:
    return msgspec.ValidationError(f"{words} - at `$.{field}`")
