"""Whether an answer is one that the OpenAPI document declares: its status, its kind, its headers and its body."""

from __future__ import annotations

from typing import Any

import httpx2
from jsonschema import Draft202012Validator

from services.gateway.http.request import route_of

Json = dict[str, Any]


def require_documented(document: Json, answer: httpx2.Response) -> None:
    """AssertionError when a declared operation answered what it does not declare. The body must have been read."""
    request = answer.request
    operations = document["paths"].get(route_of(request.url.path), {})
    operation = operations.get(request.method.lower())
    if operation is None:
        return
    place = f"{request.method} {request.url.path}: {answer.status_code}"
    assert str(answer.status_code) in operation["responses"], f"{place} is not declared"
    declared = operation["responses"][str(answer.status_code)]
    for name in declared.get("headers", {}):
        assert name in answer.headers, f"{place} lacks {name}"
    kind = answer.headers.get("content-type", "").split(";")[0]
    assert kind in declared.get("content", {"": {}}), f"{place} is {kind or 'empty'}"
    if kind.endswith("json"):
        components = {"components": document["components"]}
        schema = {**declared["content"][kind]["schema"], **components}
        Draft202012Validator(schema).validate(answer.json())
