"""Which route is a path? Known without asking the framework, for spans and metrics."""

from __future__ import annotations

SESSIONS = "/v1/sessions"
TURNS = "/v1/sessions/{session_id}/turns"
_TOP = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json"})
_OF_SESSION = frozenset(
    {
        "turns",
        "events",
        "replay",
        "interrupt",
        "tool_confirmations",
        "tool_results",
        "archive",
    }
)
UNKNOWN = "unknown"
# No key needed, no span made: probes ask these every few seconds.
OPEN = frozenset({"/healthz", "/readyz", "/metrics"})


def route_of(path: str) -> str:
    """The route's template, or `unknown`."""
    parts = path.split("/")
    if parts[1:3] != ["v1", "sessions"]:
        return path if path in _TOP else UNKNOWN
    if len(parts) == 3:
        return SESSIONS
    if len(parts) == 4:
        return "/v1/sessions/{session_id}"
    if len(parts) == 5 and parts[4] in _OF_SESSION:
        return f"/v1/sessions/{{session_id}}/{parts[4]}"
    if len(parts) == 6 and parts[4] == "turns":
        return f"{TURNS}/{{turn_id}}"
    return UNKNOWN
