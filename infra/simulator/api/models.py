"""Endpoints of models: which there are, and how long they will be."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.api.answer import answer
from infra.simulator.api.query import Query
from infra.simulator.errors import bad, missing
from infra.simulator.world import JSON


def _model(
    id: str, name: str, released: str, ends: tuple[str, str, str | None] | None = None
) -> JSON:
    """`ends`: lifecycle, deprecated since, retires at; days, as all dates here."""
    lifecycle, deprecated, retires = ends or ("active", None, None)
    return {
        "id": id,
        "type": "model",
        "display_name": name,
        "created_at": f"{released}T00:00:00Z",
        "lifecycle": lifecycle,
        "deprecated_at": deprecated and f"{deprecated}T00:00:00Z",
        "retires_at": retires and f"{retires}T00:00:00Z",
        "line": id.split("-")[1],
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "capabilities": None,
    }


MODELS = (
    _model("claude-fable-5-2", "Claude Fable 5.2", "2026-11-09"),
    _model("claude-haiku-5-5", "Claude Haiku 5.5", "2026-10-07"),
    _model("claude-sonnet-5-5", "Claude Sonnet 5.5", "2026-09-28"),
    _model("claude-opus-5-5", "Claude Opus 5.5", "2026-09-28"),
    _model("claude-sonnet-5", "Claude Sonnet 5", "2026-06-30"),
    _model("claude-opus-5", "Claude Opus 5", "2026-07-24"),
    _model("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "2025-10-01"),
    _model(
        "claude-opus-4-5-20251101",
        "Claude Opus 4.5",
        "2025-11-01",
        ("deprecated", "2026-07-24", "2027-01-22"),
    ),
    _model(
        "claude-sonnet-4-5-20250929",
        "Claude Sonnet 4.5",
        "2025-09-29",
        ("retired", "2026-06-30", "2026-11-30"),
    ),
)
MOST = 1_000


class Models:
    """The catalogue, the same in every world."""

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        return [
            Route("/v1/models", self.list, methods=["GET"]),
            Route("/v1/models/{model_id}", self.retrieve, methods=["GET"]),
        ]

    async def retrieve(self, request: Request) -> Response:
        ident = request.path_params["model_id"]
        for model in MODELS:
            if model["id"] == ident:
                return answer(model)
        raise missing("model", ident)

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
        more = len(page) < end - start
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        return answer({"data": page, "has_more": more, "first_id": first, "last_id": last})
