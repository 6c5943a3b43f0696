"""What the OpenAPI document says about each route, beside what the framework reads from its endpoint.

Each route names every reason for which it refuses a request; `problems.KNOWN` has their statuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway import bodies
from services.gateway.accept import ID
from services.gateway.http.costs import Costs
from services.gateway.http.problems import JSON, KNOWN, PROBLEM_JSON
from services.gateway.http.request import OPEN, PROFILE
from services.gateway.views import (
    Accepted,
    AcceptedTurn,
    ProfileView,
    SessionList,
    SessionView,
    TurnView,
)
from shared.session.events import Event

TITLE = "Turnstile gateway"
VERSION = "1.0.0"
ABOUT = (
    "User turns to Claude Managed Agents sessions: each sent exactly once, everything that follows recorded, "
    "streamed and replayed. What is posted is answered once it is safe on the log. "
    "Every refusal is a problem (RFC 9457); a wrong field is named in its `errors`."
)
TAGS = {
    "sessions": "Durable conversations",
    "turns": "User turns, and what can be said to a running one",
    "events": "What happened, live and again",
    "users": "What is kept of users",
    "costs": "What was paid for",
    "service": "The gateway itself",
}
REF = "#/components/schemas/{name}"
S = "/v1/sessions/{session_id}"
SSE = "text/event-stream"
RETRY_AFTER = {
    "description": "Seconds to wait",
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
}
CHALLENGE = {"description": "How to authenticate", "schema": {"type": "string"}}


class FieldProblem(Struct, frozen=True, kw_only=True):
    """A wrong field, and what to change about it."""

    field: str
    message: str


class Problem(Struct, frozen=True, kw_only=True):
    """RFC 9457. `type` is `urn:turnstile:problem:` and a word that never changes; `last_seq` is the newest event's
    number where a cursor was ahead of it."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | UnsetType = UNSET
    last_seq: int | UnsetType = UNSET


class EventPage(Struct, frozen=True, kw_only=True):
    """Events in order of seq; the next page starts after `next_after`."""

    data: list[Event]
    next_after: int


class Told(Struct, frozen=True, kw_only=True):
    """One server-sent event. `data` is the JSON of an `Event`, `event` its type and `id` its seq; previews have
    no `id`. Besides come `error` (data: a `Problem`) and `end` (data: `{}`)."""

    event: str
    data: Annotated[str, Meta(extra_json_schema={"contentMediaType": JSON})]
    id: Annotated[str, Meta(pattern="^[0-9]+$")] | UnsetType = UNSET


class Alive(Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["ok"]


class Dependency(Struct, frozen=True, kw_only=True):
    """Whether a part behind the gateway answers, and why not."""

    status: Literal["ok", "error"]
    error: str | UnsetType = UNSET


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether the gateway can do its work, and each part that it needs."""

    status: Literal["ready", "unready"]
    dependencies: dict[str, Dependency]


BODIES: tuple[type[Any], ...] = (
    bodies.NewSession,
    bodies.Prewarm,
    bodies.NewTurn,
    bodies.Profile,
    bodies.NewBudget,
    bodies.Confirmation,
    bodies.ToolResult,
    bodies.Nothing,
)
ANSWERS: tuple[type[Any], ...] = (
    SessionView,
    SessionList,
    TurnView,
    AcceptedTurn,
    Accepted,
    EventPage,
    Costs,
    ProfileView,
    Told,
    Alive,
    Readiness,
    Problem,
)
# Why a request is refused whatever it asks for; `invalid_request`: every route has parameters or a body.
ALWAYS = ("unauthorized", "forbidden", "head_timeout", "head_too_large", "internal")
LOOKS = ("invalid_request", "unknown_session", "database_unavailable")
PUBLISHES = (*LOOKS, "body_timeout", "too_large", "kafka_unavailable", "overloaded")
HISTORY = (
    *LOOKS,
    *("cursor_ahead", "session_erased"),
    *("kafka_unavailable", "archive_unavailable", "history_unavailable"),
)
OF_OPEN = (*PUBLISHES, "session_archived", "session_erased")
ANSWERS_CALL = (*OF_OPEN, "already_answered", "no_longer_asked")
STREAMS = (*HISTORY, "too_many_streams", "stream_share")


@dataclass(frozen=True, slots=True)
class Route:
    """`body` and `answer` are structs of this code; `status` is that of a good answer, `also` are others.

    `refuses` are the words of `problems.KNOWN` that it answers with; `keyed`: it takes an Idempotency-Key.
    """

    name: str
    tag: str
    summary: str
    about: str = ""
    status: int = 200
    body: type[Any] | None = None
    answer: type[Any] | None = None
    media: str = JSON
    keyed: bool = False
    refuses: tuple[str, ...] = ()
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    streams: bool = False

    def openapi(self, path: str) -> dict[str, Any]:
        """The parts of the operation that the framework can't know."""
        extra: dict[str, Any] = {
            "tags": [self.tag],
            "description": self.about or f"{self.summary}.",
            "responses": {str(self.status): self._good(), **self.also, **_problems(self.refuses)},
            "parameters": [*_in_path(path), *([IDEMPOTENCY_KEY] if self.keyed else [])],
            "security": [] if path in OPEN else [{"key": []}],
        }
        if self.body is not None:
            content = {JSON: {"schema": _ref(self.body)}}
            extra["requestBody"] = {"required": self.body is not bodies.Nothing, "content": content}
        return extra

    def _good(self) -> dict[str, Any]:
        plain = {"type": "string"} if self.media.startswith("text/") else {"type": "object"}
        content = {self.media: {"schema": _ref(self.answer) if self.answer else plain}}
        if self.streams:
            content[SSE] = {"schema": _ref(Told)}
        return {"description": self.summary, "content": content}


def _ref(struct: type[Any]) -> dict[str, str]:
    return {"$ref": REF.format(name=struct.__name__)}


def _problems(words: tuple[str, ...]) -> dict[str, Any]:
    """The responses by status, with the reasons for each."""
    found: dict[str, list[str]] = {}
    for word in words:
        found.setdefault(str(KNOWN[word][0]), []).append(word)
    return {status: _problem(status, reasons) for status, reasons in sorted(found.items())}


def _problem(status: str, words: list[str]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": "; ".join(f"`{word}`: {KNOWN[word][1]}" for word in words),
        "content": {PROBLEM_JSON: {"schema": _ref(Problem)}},
    }
    if status in ("429", "503"):
        response["headers"] = {"Retry-After": RETRY_AFTER}
    elif status == "401":
        response["headers"] = {"WWW-Authenticate": CHALLENGE}
    return response


def _in_path(path: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": IN_PATH[name],
            "schema": {"type": "string", "pattern": ID},
        }


IN_PATH = {
    "session_id": "The session's id, unique within the tenant",
    "turn_id": "The turn's id, unique within the session",
    "user_id": "The user's id, as sessions are opened for it",
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key again, for the same session and route, is the same request: its turn "
    "is the first one's. With answers to tool calls it names the answer to one call.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}
AT_THE_END = {
    "204": {
        "description": "The session is closed, or the replay told, and the client has all of it"
    }
}


def _opens(name: str, summary: str, words: str, body: type[Any]) -> Route:
    refuses = (*ALWAYS, *(word for word in PUBLISHES if word != "unknown_session"))
    content = {JSON: {"schema": _ref(SessionView)}}
    existed = {"200": {"description": "The session existed already", "content": content}}
    place = (name, "sessions", summary, words, 201, body, SessionView)
    return Route(*place, keyed=True, refuses=refuses, also=existed)


DESCRIBED: dict[tuple[str, str], Route] = {
    ("POST", "/v1/sessions"): _opens(
        "open_session",
        "Open a session, or get the one that has this id, or the user's",
        "Answered once the session is safe on the log; a turn may be posted at once. With `reuse` all who ask for "
        "one user at once are answered one session, and one of them 201.",
        bodies.NewSession,
    ),
    ("POST", "/v1/prewarm"): _opens(
        "prewarm",
        "Open a session whose provider session is made at once",
        "What POST /v1/sessions with `prewarm` does, under the gateway's own `reuse`. A session that existed is "
        "answered as it is.",
        bodies.Prewarm,
    ),
    ("GET", "/v1/sessions"): Route(
        "list_sessions",
        "sessions",
        "Sessions of the tenant, newest first",
        answer=SessionList,
        refuses=(*ALWAYS, "invalid_request", "database_unavailable", "overloaded"),
    ),
    ("GET", S): Route(
        "get_session",
        "sessions",
        "A session as it is, or as it was at a seq",
        answer=SessionView,
        refuses=(*ALWAYS, *HISTORY),
    ),
    ("DELETE", S): Route(
        "erase_session",
        "sessions",
        "Forget a session, at the provider too",
        status=202,
        answer=Accepted,
        keyed=True,
        refuses=(*ALWAYS, *PUBLISHES),
    ),
    ("POST", f"{S}/archive"): Route(
        "archive",
        "sessions",
        "Take no more turns; the history stays",
        status=202,
        body=bodies.Nothing,
        answer=Accepted,
        keyed=True,
        refuses=(*ALWAYS, *PUBLISHES),
    ),
    ("POST", f"{S}/interrupt"): Route(
        "interrupt",
        "turns",
        "End the running turn; queued ones stay",
        status=202,
        body=bodies.Nothing,
        answer=Accepted,
        keyed=True,
        refuses=(*ALWAYS, *OF_OPEN),
    ),
    ("POST", f"{S}/tool_confirmations"): Route(
        "tool_confirmations",
        "turns",
        "Allow or deny a tool call",
        status=202,
        body=bodies.Confirmation,
        answer=Accepted,
        keyed=True,
        refuses=(*ALWAYS, *ANSWERS_CALL),
    ),
    ("POST", f"{S}/tool_results"): Route(
        "tool_results",
        "turns",
        "Answer a custom tool call",
        status=202,
        body=bodies.ToolResult,
        answer=Accepted,
        keyed=True,
        refuses=(*ALWAYS, *ANSWERS_CALL),
    ),
    ("PUT", f"{S}/budget"): Route(
        "put_budget",
        "sessions",
        "Raise the session's budget",
        "A turn that waits for it (a pending action of kind `budget`) goes on. A budget that the session does not "
        "take, not above what was spent or where it began without one, is told in `session.answer_refused`.",
        202,
        bodies.NewBudget,
        Accepted,
        keyed=True,
        refuses=(*ALWAYS, *OF_OPEN, "budget_not_raised"),
    ),
    ("POST", f"{S}/turns"): Route(
        "post_turn",
        "turns",
        "Send a user turn",
        "Answered once the turn is safe on the log. The same turn again is the same turn, whatever its body.",
        202,
        bodies.NewTurn,
        AcceptedTurn,
        keyed=True,
        refuses=(*ALWAYS, *OF_OPEN),
    ),
    ("GET", f"{S}/turns/{{turn_id}}"): Route(
        "get_turn",
        "turns",
        "A turn as it stands",
        answer=TurnView,
        refuses=(*ALWAYS, "invalid_request", "unknown_turn", "database_unavailable"),
    ),
    ("GET", f"{S}/events"): Route(
        "get_events",
        "events",
        "History, then live, without gap or repeat",
        "Server-sent events, each with its `seq` as `id` and an `Event` as data; a page of JSON when `Accept` "
        "names `application/json`.",
        answer=EventPage,
        streams=True,
        refuses=(*ALWAYS, *STREAMS),
        also=AT_THE_END,
    ),
    ("GET", f"{S}/replay"): Route(
        "get_replay",
        "events",
        "Recorded events at recorded speed, or `speed` times as fast",
        "Server-sent events as of the live stream, then `event: end`.",
        answer=Told,
        media=SSE,
        refuses=(*ALWAYS, *STREAMS),
        also=AT_THE_END,
    ),
    ("GET", PROFILE): Route(
        "get_profile",
        "users",
        "What is kept of a user",
        "An empty profile where nothing is, also of a user nobody has heard of.",
        answer=ProfileView,
        refuses=(*ALWAYS, "invalid_request", "database_unavailable"),
    ),
    ("PUT", PROFILE): Route(
        "put_profile",
        "users",
        "Keep this of a user, in place of what was",
        "Told to the agent as data at the beginning of each provider session that is opened from then on. "
        "Forgotten by `turnstile erase --user`.",
        body=bodies.Profile,
        answer=ProfileView,
        refuses=(*ALWAYS, "invalid_request", "body_timeout", "too_large", "database_unavailable"),
    ),
    ("GET", "/v1/costs"): Route(
        "get_costs",
        "costs",
        "What the tenant paid for",
        "Sums of the ledger by user, agent, model or day, behind by what the archive is behind.",
        answer=Costs,
        refuses=(*ALWAYS, "invalid_request", "archive_unavailable"),
    ),
    ("GET", "/healthz"): Route("healthz", "service", "Alive", answer=Alive),
    ("GET", "/readyz"): Route(
        "readyz",
        "service",
        "Ready; names each dependency",
        answer=Readiness,
        also={"503": {"description": "Not ready", "content": {JSON: {"schema": _ref(Readiness)}}}},
    ),
    ("GET", "/metrics"): Route("metrics", "service", "Prometheus text", media="text/plain"),
    ("GET", "/openapi.json"): Route("openapi", "service", "This document", refuses=ALWAYS),
    ("GET", "/asyncapi.json"): Route(
        "asyncapi", "service", "The topics and their messages", refuses=ALWAYS
    ),
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The framework's document with what it can't know: the schemas referred to, and what holds for all operations.

    Its own 422 answers are left out: a wrong parameter is a 400 like every other wrong field.
    """
    document["info"] |= {"version": VERSION, "description": ABOUT}
    document["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    document["servers"] = [{"url": "/", "description": "This gateway"}]
    document["tags"] = [{"name": name, "description": about} for name, about in TAGS.items()]
    document["components"] = {
        "schemas": _schemas(),
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "A key of this gateway"}
        },
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
    return document


def _schemas() -> dict[str, Any]:
    """Every struct by its name. What clients send says its defaults in words, since generators take a default for a
    promise that the field is there; what they get has all fields but those left unset.

    Events were written by older builds too: what came later may be missing from them.
    """
    _, schemas = msgspec.json.schema_components([*BODIES, *ANSWERS], ref_template=REF)
    for name, schema in schemas.items():
        sent = schema.get("additionalProperties") is False
        for field_name, about in schema["properties"].items():
            default = about.pop("default", UNSET)
            if default is UNSET or name == Event.__name__:
                continue
            if not sent:
                schema.setdefault("required", []).append(field_name)
            elif default is not None:
                about["description"] = f"Default: `{msgspec.json.encode(default).decode()}`"
    found: dict[str, Any] = _portable(schemas)
    return found


def _portable(schema: Any) -> Any:
    """JSON Schema as every generator reads it: by the standard `$` is the end of the text and nothing before it,
    which Python's is not."""
    if isinstance(schema, list):
        return [_portable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _portable(value) for key, value in schema.items()}
    if isinstance(found.get("pattern"), str):
        found["pattern"] = found["pattern"].replace(r"(?![\s\S])", "$")
    if isinstance(found.get("description"), str):
        found["description"] = cleandoc(found["description"])
    if isinstance(found.get("enum"), list):
        found.setdefault("type", "string")
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out; there is no way to say null in a URL or a header."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "title")}
    return {**rest, **choices[0]} if len(choices) == 1 else {**schema}
