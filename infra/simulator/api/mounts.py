"""The resources of a session that is being created: files, repositories, memory stores."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from infra.simulator.api.memory import attached
from infra.simulator.api.resources import FileResource, GitHubResource, MemoryResource
from infra.simulator.errors import bad
from infra.simulator.world import JSON, World

MOST_FILES, MOST_STORES = 999, 8
_PATH = re.compile(r"(/[^/\x00-\x1f]+)+")
Asked = FileResource | GitHubResource | MemoryResource


def mounted(world: World, asked: Sequence[Asked]) -> list[JSON]:
    """The resources as the session shows them. Raises ApiError 400 or 404; files were looked up before."""
    kinds = [type(one) for one in asked]
    for kind, most in ((FileResource, MOST_FILES), (MemoryResource, MOST_STORES)):
        if kinds.count(kind) > most:
            raise bad(f"resources: at most {most} of one type")
    found = [
        attached(world, one) if isinstance(one, MemoryResource) else _mount(world, one)
        for one in asked
    ]
    paths = [body["mount_path"] for body in found]
    taken = next((path for path in paths if paths.count(path) > 1), None)
    if taken is not None:
        raise bad(f"resources: two are mounted at {taken!r}")
    return found


def _mount(world: World, one: FileResource | GitHubResource) -> JSON:
    if one.mount_path is not None and _PATH.fullmatch(one.mount_path) is None:
        raise bad("resources: mount_path must be an absolute path")
    body: JSON = msgspec.to_builtins(one)
    body.pop("authorization_token", None)  # write-only
    if isinstance(one, FileResource):
        usual = f"/mnt/session/uploads/{one.file_id}"
    else:
        usual = "/workspace/" + one.url.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")
    now = world.written_now()
    body["mount_path"] = one.mount_path or usual
    return {"id": world.ids.new("sesrsc"), **body, "created_at": now, "updated_at": now}
