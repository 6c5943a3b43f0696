"""The provider's troubles: fault rules of the simulator, by the name of the trouble."""

from __future__ import annotations

from typing import Any

Rules = tuple[dict[str, Any], ...]
_SEND: dict[str, Any] = {"method": "POST", "path": "/events$"}
_CREATE: dict[str, Any] = {"method": "POST", "path": "/v1/sessions$"}
_READ: dict[str, Any] = {"method": "GET", "path": "/(events|sessions)$"}
_STREAM: dict[str, Any] = {"method": "GET", "path": "/stream$"}
_SOON = {"Retry-After": "1"}


def _often(match: dict[str, Any], share: float, **fault: Any) -> dict[str, Any]:
    return {"match": {**match, "probability": share}, "fault": fault}


TROUBLES: dict[str, Rules] = {
    "rate limited": tuple(
        _often(match, 0.4, kind="respond", status=429, headers=_SOON)
        for match in (_SEND, _CREATE, _READ)
    ),
    "overloaded": tuple(
        _often(match, 0.4, kind="respond", status=529) for match in (_SEND, _CREATE, _READ)
    ),
    "errors after landing": (
        _often(_SEND, 0.5, kind="land_then_respond", status=500),
        _often(_CREATE, 0.5, kind="land_then_respond", status=500),
    ),
    "answers lost": (
        _often(_SEND, 0.5, kind="land_then_drop"),
        _often(_CREATE, 0.5, kind="land_then_drop"),
    ),
    "connections refused": tuple(
        _often(match, 0.4, kind="drop") for match in (_SEND, _CREATE, _READ)
    ),
    "slow": (
        _often(_SEND, 0.5, kind="land_then_delay", seconds=2.0),
        _often(_READ, 0.5, kind="delay", seconds=1.0),
    ),
    "streams cut": (
        _often(_STREAM, 0.3, kind="cut", after=3),
        _often(_STREAM, 0.3, kind="reset", after=2),
        _often(_STREAM, 0.3, kind="truncate", after=4),
    ),
    "streams wrong": (
        _often(_STREAM, 0.3, kind="error_event", after=2),
        _often(_STREAM, 0.3, kind="bad_json", after=3),
        _often(_STREAM, 0.5, kind="duplicate"),
    ),
    "a stream silent": ({"match": {**_STREAM, "nth": 2}, "fault": {"kind": "silent", "after": 2}},),
    "events late": (_often(_SEND, 0.5, kind="late_event"),),
}
