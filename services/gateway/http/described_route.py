"""What the OpenAPI document says about one route, beside what the framework reads from its endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway import bodies
from services.gateway.http.problems import JSON, KNOWN, PROBLEM_JSON
from services.gateway.http.request import KEYLESS, OPEN
from services.gateway.ids import ID

REF = "#/components/schemas/{name}"
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


class Told(Struct, frozen=True, kw_only=True):
    """One server-sent event. `data` is the JSON of an `Event`, `event` its type and `id` its seq; previews have
    no `id`. Besides come `error` (data: a `Problem`) and `end` (data: `{}`)."""

    event: str
    data: Annotated[str, Meta(extra_json_schema={"contentMediaType": JSON})]
    id: Annotated[str, Meta(pattern="^[0-9]+$")] | UnsetType = UNSET


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
            "security": [] if path in OPEN or path in KEYLESS else [{"key": []}],
        }
        if self.body is not None:
            content = {JSON: {"schema": ref(self.body)}}
            extra["requestBody"] = {"required": self.body is not bodies.Nothing, "content": content}
        return extra

    def _good(self) -> dict[str, Any]:
        plain = {"type": "string"} if self.media.startswith("text/") else {"type": "object"}
        content = {self.media: {"schema": ref(self.answer) if self.answer else plain}}
        if self.streams:
            content[SSE] = {"schema": ref(Told)}
        return {"description": self.summary, "content": content}


def ref(struct: type[Any]) -> dict[str, str]:
    """Where the document has the struct's schema."""
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
        "content": {PROBLEM_JSON: {"schema": ref(Problem)}},
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
    "vault_id": "The vault's id",
    "token": "The end of the link's address",
    "credential_id": "The credential's id",
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
