"""Endpoints of files: what messages and sessions may refer to by id. The bytes are not kept, only what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email import message_from_bytes, policy
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.api.answer import answer, listing
from infra.simulator.api.decode import read_body
from infra.simulator.api.pages import page_of
from infra.simulator.api.query import Query
from infra.simulator.errors import bad, missing
from infra.simulator.world import JSON, World


class Files:
    """The file endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        one = "/v1/files/{file_id}"
        return [
            Route("/v1/files", self.upload, methods=["POST"]),
            Route("/v1/files", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def upload(self, request: Request) -> Response:
        """A new file out of a form with the field `file`. Raises ApiError 400 and 413."""
        name, kind, data = _form(request.headers.get("content-type", ""), await read_body(request))
        body: JSON = {
            "id": self._world.ids.new("file"),
            "type": "file",
            "filename": name,
            "mime_type": kind,
            "size_bytes": len(data),
            "downloadable": False,
            "created_at": self._world.written_now(),
        }
        self._world.files[body["id"]] = body
        return answer(body)

    async def retrieve(self, request: Request) -> Response:
        return answer(file(self._world, request.path_params["file_id"]))

    async def list(self, request: Request) -> Response:
        """Newest first."""
        query = Query(request, "limit", "page")
        files = list(reversed(self._world.files.values()))
        page, following, _ = page_of(files, query.text("page"), "files", query.limit(20, 1000))
        return listing(page, following)

    async def delete(self, request: Request) -> Response:
        ident = file(self._world, request.path_params["file_id"])["id"]
        del self._world.files[ident]
        return answer({"id": ident, "type": "file_deleted"})


def file(world: World, ident: str) -> JSON:
    """Raises ApiError 404 for a file that is not there."""
    body = world.files.get(ident)
    if body is None:
        raise missing("file", ident)
    return body


def check_files(world: World, values: Iterable[Any]) -> None:
    """Raises ApiError 404 where events or resources refer to a file that is not there, and 400 where they refer to
    one and this server has no files."""
    for ident in _referred(values):
        if "files" in world.settings.without:
            raise bad("file: this server has no files")
        file(world, ident)


def _referred(value: Any) -> Iterator[str]:
    """The ids of `{"type": "file", "file_id": …}`, however deep."""
    if isinstance(value, dict):
        if value.get("type") == "file" and "file_id" in value:
            yield value["file_id"]
        value = value.values()
    elif isinstance(value, str) or not isinstance(value, Iterable):
        return
    for inner in value:
        yield from _referred(inner)


def _form(content_type: str, body: bytes) -> tuple[str, str, bytes]:
    """Name, media type and bytes of the form's field `file`. Raises ApiError 400 where there is none."""
    head = f"content-type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    for part in message_from_bytes(head + body, policy=policy.HTTP).iter_parts():
        if part.get_param("name", header="content-disposition") == "file":
            data = part.get_payload(decode=True)
            return part.get_filename() or "file", part.get_content_type(), bytes(data or b"")
    raise bad("file: the request must be a multipart form with a file")
