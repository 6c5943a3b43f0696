"""Routes of vaults and credentials. A body with secrets is read into Secrets at once, and what is wrong with one is
told without a word of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from services.gateway import vault_bodies
from services.gateway.http.auth import caller_of
from services.gateway.http.problems import as_json
from services.gateway.http.request import decode, read_body
from services.gateway.ids import ID, require_id
from services.gateway.vault_bodies import CredentialList, Gone, NewCredential, NewVault, Rotation
from services.gateway.vaults import OwnVaults
from shared.errors import Rejected
from shared.secret import read_secret

Endpoint = Callable[..., Awaitable[Response]]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most")]
Cursor = Annotated[
    str | None,
    Query(description="The `next_cursor` of the page before", json_schema_extra={"pattern": ID}),
]
_new_vault = msgspec.json.Decoder(NewVault)
_new_credential = msgspec.json.Decoder(NewCredential, dec_hook=read_secret)
_rotation = msgspec.json.Decoder(Rotation, dec_hook=read_secret)
# All names that a body of these routes may have: others may be secrets in the wrong place.
_NAMES = frozenset(
    name
    for struct in vars(vault_bodies).values()
    if isinstance(struct, type) and issubclass(struct, msgspec.Struct)
    for name in struct.__struct_fields__
) | {"type", "body"}
_PARTS = re.compile(r"[^.\[\]]+")
_T = TypeVar("_T")


def vault_maker(vaults: OwnVaults) -> Endpoint:
    """POST /v1/vaults. Raises, like all that follow, what `read_body`, `unechoed` and OwnVaults raise."""

    async def create_vault(request: Request) -> Response:
        asked = await unechoed(request, _new_vault)
        return as_json(await vaults.create(_tenant(request), asked), 201)

    return create_vault


def vault_lister(vaults: OwnVaults) -> Endpoint:
    """GET /v1/vaults."""

    async def list_vaults(request: Request, limit: Limit = 50, cursor: Cursor = None) -> Response:
        after = "" if cursor is None else require_id(cursor, "cursor")
        return as_json(await vaults.page(_tenant(request), after, limit))

    return list_vaults


def vault_reader(vaults: OwnVaults) -> Endpoint:
    """GET /v1/vaults/{vault_id}."""

    async def get_vault(request: Request) -> Response:
        return as_json(await vaults.vault(*_vault(request)))

    return get_vault


def vault_deleter(vaults: OwnVaults) -> Endpoint:
    """DELETE /v1/vaults/{vault_id}."""

    async def delete_vault(request: Request) -> Response:
        tenant_id, vault_id = _vault(request)
        await vaults.delete(tenant_id, vault_id)
        return as_json(Gone(id=vault_id))

    return delete_vault


def credential_maker(vaults: OwnVaults) -> Endpoint:
    """POST …/credentials."""

    async def create_credential(request: Request) -> Response:
        tenant_id, vault_id = _vault(request)
        asked = await unechoed(request, _new_credential)
        return as_json(await vaults.add(tenant_id, vault_id, asked), 201)

    return create_credential


def credential_lister(vaults: OwnVaults) -> Endpoint:
    """GET …/credentials."""

    async def list_credentials(request: Request) -> Response:
        return as_json(CredentialList(data=await vaults.credentials(*_vault(request))))

    return list_credentials


def credential_deleter(vaults: OwnVaults) -> Endpoint:
    """DELETE …/credentials/{credential_id}."""

    async def delete_credential(request: Request) -> Response:
        tenant_id, vault_id, credential_id = _credential(request)
        await vaults.remove(tenant_id, vault_id, credential_id)
        return as_json(Gone(id=credential_id))

    return delete_credential


def credential_rotator(vaults: OwnVaults) -> Endpoint:
    """POST …/credentials/{credential_id}/rotate."""

    async def rotate_credential(request: Request) -> Response:
        whose = _credential(request)
        asked = await unechoed(request, _rotation)
        return as_json(await vaults.rotate(*whose, asked))

    return rotate_credential


def credential_validator(vaults: OwnVaults) -> Endpoint:
    """POST …/credentials/{credential_id}/validate."""

    async def validate_credential(request: Request) -> Response:
        return as_json(await vaults.validate(*_credential(request)))

    return validate_credential


async def unechoed(request: Request, decoder: msgspec.json.Decoder[_T]) -> _T:
    """The body. Raises Rejected that names a field of ours, and says nothing that stands in the body."""
    body = await read_body(request.scope, request.receive)
    wrong: Rejected | None = None
    try:
        return decode(decoder, body)
    except Rejected as error:
        wrong = error
    field = wrong.field or "body"
    ours = [part for part in _PARTS.findall(field) if part in _NAMES or part.isdecimal()]
    if len(ours) < len(_PARTS.findall(field)):
        # The rest may be a secret that stands where a name should.
        words = "holds a field that is unknown: see /openapi.json"
        raise Rejected(wrong.reason, words, field=".".join(ours) or "body")
    raise Rejected(wrong.reason, str(wrong), field=field)


def _tenant(request: Request) -> str:
    return caller_of(request.scope).tenant_id


def _vault(request: Request) -> tuple[str, str]:
    return _tenant(request), require_id(request.path_params["vault_id"], "vault_id")


def _credential(request: Request) -> tuple[str, str, str]:
    credential_id: Any = request.path_params["credential_id"]
    return (*_vault(request), require_id(credential_id, "credential_id"))
