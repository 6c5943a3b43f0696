"""What do the documents say about each route? The table behind /openapi.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.gateway.bodies import Confirmation, NewSession, NewTurn, ToolResult
from services.gateway.views import SessionView, TurnView
from shared.session.events import Event

TITLE = "Turnstile gateway"
REF = "#/components/schemas/{name}"
S = "/v1/sessions/{session_id}"
BODIES: tuple[type[Any], ...] = (NewSession, NewTurn, Confirmation, ToolResult)
VIEWS: tuple[type[Any], ...] = (SessionView, TurnView, Event)


@dataclass(frozen=True, slots=True)
class Route:
    """`body` and `answer` are structs of this code; `status` is that of a good answer."""

    name: str
    summary: str
    status: int = 200
    body: type[Any] | None = None
    answer: type[Any] | None = None
    media: str = "application/json"
    keyed: bool = False
    problems: tuple[int, ...] = (400, 401, 403, 404, 503)
    also: dict[str, str] = field(default_factory=dict)

    def openapi(self) -> dict[str, Any]:
        """The parts of the operation that the framework can't know."""
        schema = _ref(self.answer) if self.answer else {"type": "object"}
        good = {"description": self.summary, "content": {self.media: {"schema": schema}}}
        responses: dict[str, Any] = {str(self.status): good}
        responses |= {status: {"description": words} for status, words in self.also.items()}
        responses |= {str(status): PROBLEM for status in self.problems}
        extra: dict[str, Any] = {"responses": responses}
        if self.problems:
            extra["security"] = [{"key": []}]
        if self.body is not None:
            content = {"application/json": {"schema": _ref(self.body)}}
            extra["requestBody"] = {"required": True, "content": content}
        if self.keyed:
            extra["parameters"] = [IDEMPOTENCY_KEY]
        return extra


PROBLEM = {
    "description": "A problem, RFC 9457",
    "content": {"application/problem+json": {"schema": {"$ref": REF.format(name="Problem")}}},
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key again, for the same session and route, is the same request: its turn "
    "is the first one's. With answers to tool calls it names the answer to one call.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
SSE = "text/event-stream"
_POST = (400, 401, 403, 404, 409, 413, 503)
_STREAM = (400, 401, 403, 404, 409, 429, 503)
AT_THE_END = {"204": "The session is closed, or the replay told, and the client has all of it"}

DESCRIBED: dict[tuple[str, str], Route] = {
    ("POST", "/v1/sessions"): Route(
        "open_session",
        "Open a session, or get the one that has this id",
        201,
        NewSession,
        SessionView,
        keyed=True,
        problems=(400, 401, 403, 413, 503),
        also={"200": "The session existed already"},
    ),
    ("GET", "/v1/sessions"): Route(
        "list_sessions",
        "Sessions, newest first: `{data, next_cursor}`",
        problems=(400, 401, 403, 503),
    ),
    ("GET", S): Route(
        "get_session", "A session as it is, or as it was at a seq", answer=SessionView
    ),
    ("DELETE", S): Route("erase_session", "Forget a session, at the provider too", 202),
    ("POST", f"{S}/archive"): Route(
        "archive", "Take no more turns; the history stays", 202, keyed=True
    ),
    ("POST", f"{S}/interrupt"): Route(
        "interrupt",
        "End the running turn; queued ones stay",
        202,
        keyed=True,
        problems=(400, 401, 403, 404, 409, 503),
    ),
    ("POST", f"{S}/tool_confirmations"): Route(
        "tool_confirmations",
        "Allow or deny a tool call",
        202,
        Confirmation,
        keyed=True,
        problems=_POST,
    ),
    ("POST", f"{S}/tool_results"): Route(
        "tool_results", "Answer a custom tool call", 202, ToolResult, keyed=True, problems=_POST
    ),
    ("POST", f"{S}/turns"): Route(
        "post_turn",
        "Send a user turn; answered once it is safe on the log",
        202,
        NewTurn,
        keyed=True,
        problems=(400, 401, 403, 404, 409, 413, 503),
    ),
    ("GET", f"{S}/turns/{{turn_id}}"): Route("get_turn", "A turn as it stands", answer=TurnView),
    ("GET", f"{S}/events"): Route(
        "get_events",
        "History, then live, without gap or repeat; pages when Accept asks for JSON",
        media=SSE,
        answer=Event,
        problems=_STREAM,
        also=AT_THE_END,
    ),
    ("GET", f"{S}/replay"): Route(
        "get_replay",
        "Recorded events at recorded speed, or `speed` times as fast",
        media=SSE,
        answer=Event,
        problems=_STREAM,
        also=AT_THE_END,
    ),
    ("GET", "/healthz"): Route("healthz", "Alive", problems=()),
    ("GET", "/readyz"): Route(
        "readyz", "Ready; names each dependency", problems=(), also={"503": "Not ready"}
    ),
    ("GET", "/metrics"): Route("metrics", "Prometheus text", media="text/plain", problems=()),
    ("GET", "/openapi.json"): Route("openapi", "This document", problems=(401, 403)),
    ("GET", "/asyncapi.json"): Route(
        "asyncapi", "The topics and their messages", problems=(401, 403)
    ),
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The framework's document with the schemas that the operations refer to.

    Its own 422 answers are left out: a wrong parameter is a 400 like every other wrong field.
    """
    _, schemas = msgspec.json.schema_components([*BODIES, *VIEWS], ref_template=REF)
    components = document.setdefault("components", {})
    components["schemas"] = {**schemas, "Problem": _problem_schema()}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    return document


def _ref(struct: type[Any]) -> dict[str, str]:
    return {"$ref": REF.format(name=struct.__name__)}


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    error = {"type": "object", "properties": {"field": text, "message": text}}
    properties = {
        "type": text,
        "title": text,
        "status": {"type": "integer"},
        "detail": text,
        "errors": {"type": "array", "items": error},
    }
    return {"type": "object", "required": ["type", "title", "status"], "properties": properties}
