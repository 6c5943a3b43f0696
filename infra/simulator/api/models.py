"""Endpoints of models: which there are, and how long they will be."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.api.answer import answer
from infra.simulator.api.query import Query
from infra.simulator.errors import bad
from infra.simulator.messages.catalogue import MODELS, find
from infra.simulator.world import World

MOST = 1_000


class Models:
    """The catalogue, the same in every world but for the context window."""

    def __init__(self, world: World) -> None:
        self._window = world.settings.window

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        return [
            Route("/v1/models", self.list, methods=["GET"]),
            Route("/v1/models/{model_id}", self.retrieve, methods=["GET"]),
        ]

    async def retrieve(self, request: Request) -> Response:
        """Raises ApiError 404."""
        return answer(find(request.path_params["model_id"], self._window))

    async def list(self, request: Request) -> Response:
        """A page, by ids and not by cursors as elsewhere. Raises ApiError 400 for an id that is not listed."""
        query = Query(request, "limit", "after_id", "before_id")
        ids = [model["id"] for model in MODELS]
        after, before = query.text("after_id"), query.text("before_id")
        limit = query.limit(20, MOST)
        for name, id in (("after_id", after), ("before_id", before)):
            if id is not None and id not in ids:
                raise bad(f"{name}: no model {id!r} is listed")
        start = ids.index(after) + 1 if after else 0
        end = ids.index(before) if before else len(ids)
        page = MODELS[start:end][-limit:] if before else MODELS[start:end][:limit]
        page = tuple({**model, "max_input_tokens": self._window} for model in page)
        more = len(page) < end - start
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        return answer({"data": page, "has_more": more, "first_id": first, "last_id": last})
