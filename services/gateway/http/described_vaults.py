"""What the OpenAPI document says about the routes of vaults and credentials."""

from __future__ import annotations

from services.gateway import vault_bodies as shapes
from services.gateway.http.described_route import ALWAYS, Route
from services.gateway.http.request import CREDENTIAL, CREDENTIALS, VAULT, VAULTS

_LOOKS = (*ALWAYS, "invalid_request", "unknown_vault", "database_unavailable")
_ASKS = (*_LOOKS, "provider_unavailable", "refused_by_provider")
_SENDS = (*_ASKS, "body_timeout", "too_large")
_TAG = "vaults"
_NEVER = "What is secret goes to the provider and is kept nowhere else: no answer, event, log or trace has it. "

DESCRIBED_VAULTS: dict[tuple[str, str], Route] = {
    ("POST", VAULTS): Route(
        "create_vault",
        _TAG,
        "Make a vault",
        "It is the tenant's: no other one can name it. Sessions that name no vaults have those for their project, "
        "for the tenant and for their user, as `TURNSTILE_VAULT_POLICY` says.",
        201,
        shapes.NewVault,
        shapes.VaultView,
        refuses=tuple(word for word in _SENDS if word != "unknown_vault"),
    ),
    ("GET", VAULTS): Route(
        "list_vaults",
        _TAG,
        "The tenant's vaults, in order of id",
        answer=shapes.VaultList,
        refuses=tuple(word for word in _LOOKS if word != "unknown_vault"),
    ),
    ("GET", VAULT): Route("get_vault", _TAG, "A vault", answer=shapes.VaultView, refuses=_LOOKS),
    ("DELETE", VAULT): Route(
        "delete_vault",
        _TAG,
        "Delete a vault and its credentials, at the provider too",
        answer=shapes.Gone,
        refuses=_ASKS,
    ),
    ("POST", CREDENTIALS): Route(
        "create_credential",
        _TAG,
        "Put a credential into a vault",
        _NEVER + "A vault has one for each MCP server and each variable, twenty at most.",
        201,
        shapes.NewCredential,
        shapes.CredentialView,
        refuses=(*_SENDS, "credential_exists"),
    ),
    ("GET", CREDENTIALS): Route(
        "list_credentials",
        _TAG,
        "The credentials of a vault, without their secrets",
        answer=shapes.CredentialList,
        refuses=_ASKS,
    ),
    ("DELETE", CREDENTIAL): Route(
        "delete_credential",
        _TAG,
        "Delete a credential",
        answer=shapes.Gone,
        refuses=(*_ASKS, "unknown_credential"),
    ),
    ("POST", f"{CREDENTIAL}/rotate"): Route(
        "rotate_credential",
        _TAG,
        "Exchange a credential's secrets",
        _NEVER + "Type, server and variable stay. Running sessions use the new ones.",
        body=shapes.Rotation,
        answer=shapes.CredentialView,
        refuses=(*_SENDS, "unknown_credential"),
    ),
    ("POST", f"{CREDENTIAL}/validate"): Route(
        "validate_credential",
        _TAG,
        "Have an OAuth credential tried at its MCP server",
        "It is refreshed where the server refuses it. `unknown`: that could not be told; try again.",
        answer=shapes.Validation,
        refuses=(*_ASKS, "unknown_credential"),
    ),
}
