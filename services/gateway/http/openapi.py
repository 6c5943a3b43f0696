"""The OpenAPI document: what the framework makes, completed by what it can't know."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import msgspec
from msgspec import UNSET

from services.gateway import bodies, vault_bodies
from services.gateway.http.agents import Agents
from services.gateway.http.costs import Costs
from services.gateway.http.described import Alive, EventPage, Readiness
from services.gateway.http.described_route import REF, Problem, Told
from services.gateway.views import (
    Accepted,
    AcceptedTurn,
    ProfileView,
    SessionList,
    SessionView,
    TurnView,
)
from shared.secret import Secret
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
    "agents": "Agents by name",
    "vaults": "What agents may use of a tenant's, kept at the provider",
    "costs": "What was paid for",
    "service": "The gateway itself",
}

BODIES: tuple[type[Any], ...] = (
    bodies.NewSession,
    bodies.Prewarm,
    bodies.NewTurn,
    bodies.Profile,
    bodies.NewBudget,
    bodies.Confirmation,
    bodies.ToolResult,
    bodies.Nothing,
    vault_bodies.NewVault,
    vault_bodies.NewCredential,
    vault_bodies.Rotation,
    vault_bodies.NewConnect,
)
ANSWERS: tuple[type[Any], ...] = (
    SessionView,
    SessionList,
    TurnView,
    AcceptedTurn,
    Accepted,
    EventPage,
    Costs,
    Agents,
    ProfileView,
    vault_bodies.VaultView,
    vault_bodies.VaultList,
    vault_bodies.CredentialView,
    vault_bodies.CredentialList,
    vault_bodies.Validation,
    vault_bodies.Gone,
    vault_bodies.ConnectLink,
    Told,
    Alive,
    Readiness,
    Problem,
)


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
    _, schemas = msgspec.json.schema_components(
        [*BODIES, *ANSWERS], ref_template=REF, schema_hook=_schema_of
    )
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


def _schema_of(kind: type[Any]) -> dict[str, Any]:
    """Of what JSON Schema has no word for."""
    if kind is not Secret:
        raise NotImplementedError
    return {
        "type": "string",
        "format": "password",
        "writeOnly": True,
        "minLength": 1,
        "pattern": r"\S",
    }


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
