"""What the OpenAPI document says about each route.

Each route names every reason for which it refuses a request; `problems.KNOWN` has their statuses.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from services.gateway import bodies
from services.gateway.http.agents import Agents
from services.gateway.http.costs import Costs
from services.gateway.http.described_connect import DESCRIBED_CONNECT
from services.gateway.http.described_route import (
    ALWAYS,
    ANSWERS_CALL,
    HISTORY,
    OF_OPEN,
    PUBLISHES,
    SSE,
    STREAMS,
    Route,
    Told,
    ref,
)
from services.gateway.http.described_vaults import DESCRIBED_VAULTS
from services.gateway.http.problems import JSON
from services.gateway.http.request import AGENTS, PROFILE
from services.gateway.views import (
    Accepted,
    AcceptedTurn,
    ProfileView,
    SessionList,
    SessionView,
    TurnView,
)
from shared.session.events import Event

S = "/v1/sessions/{session_id}"


class EventPage(Struct, frozen=True, kw_only=True):
    """Events in order of seq; the next page starts after `next_after`."""

    data: list[Event]
    next_after: int


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


AT_THE_END = {
    "204": {
        "description": "The session is closed, or the replay told, and the client has all of it"
    }
}


def _opens(name: str, summary: str, words: str, body: type[Any]) -> Route:
    lasting = (word for word in PUBLISHES if word != "unknown_session")
    refuses = (*ALWAYS, *lasting, "unknown_reference")
    content = {JSON: {"schema": ref(SessionView)}}
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
        refuses=(*ALWAYS, *ANSWERS_CALL, "unknown_reference"),
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
        refuses=(*ALWAYS, *OF_OPEN, "unknown_reference"),
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
    ("GET", AGENTS): Route(
        "list_agents",
        "agents",
        "The agents that sessions may name",
        "With the version that new provider sessions get, and a canary's share of sessions. Set by "
        "`turnstile agents`.",
        answer=Agents,
        refuses=(*ALWAYS, "database_unavailable"),
    ),
    **DESCRIBED_VAULTS,
    **DESCRIBED_CONNECT,
    ("GET", "/healthz"): Route("healthz", "service", "Alive", answer=Alive),
    ("GET", "/readyz"): Route(
        "readyz",
        "service",
        "Ready; names each dependency",
        answer=Readiness,
        also={"503": {"description": "Not ready", "content": {JSON: {"schema": ref(Readiness)}}}},
    ),
    ("GET", "/metrics"): Route("metrics", "service", "Prometheus text", media="text/plain"),
    ("GET", "/openapi.json"): Route("openapi", "service", "This document", refuses=ALWAYS),
    ("GET", "/asyncapi.json"): Route(
        "asyncapi", "service", "The topics and their messages", refuses=ALWAYS
    ),
}
