"""Vaults in memory."""

from __future__ import annotations

from itertools import count

from services.gateway.vault_bodies import CredentialView, NewCredential, Rotation, Validation
from shared.errors import Rejected, Transient
from shared.secret import secrets_in

AT = "2026-11-21T12:00:00.000000Z"


class MemoryVaults:
    """The Vaults port. `held`: the secrets of each credential; `vaults`: the credentials of each vault."""

    def __init__(self) -> None:
        self.vaults: dict[str, dict[str, CredentialView]] = {}
        self.held: dict[str, list[str]] = {}
        self.down = False
        self._numbers = count(1)

    async def create(self, tenant_id: str, display_name: str) -> str:
        """See Vaults.create."""
        self._require_up()
        made = f"vlt_{next(self._numbers)}"
        self.vaults[made] = {}
        return made

    async def delete(self, vault_id: str) -> None:
        """See Vaults.delete."""
        self._require_up()
        self.vaults.pop(vault_id, None)

    async def add(self, vault_id: str, asked: NewCredential) -> CredentialView:
        """See Vaults.add."""
        kept = self._vault(vault_id)
        auth = asked.auth
        view = CredentialView(
            credential_id=f"vcrd_{next(self._numbers)}",
            vault_id=vault_id,
            type=auth.__struct_config__.tag,  # type: ignore[arg-type]
            display_name=asked.display_name,
            mcp_server_url=getattr(auth, "mcp_server_url", None),
            secret_name=getattr(auth, "secret_name", None),
            expires_at=getattr(auth, "expires_at", None),
            refreshable=getattr(auth, "refresh", None) is not None,
            created_at=AT,
            updated_at=AT,
        )
        places = {(one.mcp_server_url, one.secret_name) for one in kept.values()}
        if (view.mcp_server_url, view.secret_name) in places:
            raise Rejected("credential_exists", "there is one", field="auth")
        kept[view.credential_id] = view
        self.held[view.credential_id] = secrets_in(asked)
        return view

    async def credentials(self, vault_id: str) -> list[CredentialView]:
        """See Vaults.credentials."""
        return [*self._vault(vault_id).values()]

    async def rotate(self, vault_id: str, credential_id: str, asked: Rotation) -> CredentialView:
        """See Vaults.rotate."""
        view = self._credential(vault_id, credential_id)
        self.held[credential_id] = secrets_in(asked)
        return view

    async def put(self, vault_id: str, asked: NewCredential) -> CredentialView:
        """See Vaults.put; of another client each time."""
        url = getattr(asked.auth, "mcp_server_url", None)
        for one in [*self._vault(vault_id).values()]:
            if one.mcp_server_url == url:
                await self.remove(vault_id, one.credential_id)
        return await self.add(vault_id, asked)

    async def remove(self, vault_id: str, credential_id: str) -> None:
        """See Vaults.remove."""
        self._credential(vault_id, credential_id)
        del self._vault(vault_id)[credential_id]

    async def validate(self, vault_id: str, credential_id: str) -> Validation:
        """See Vaults.validate."""
        view = self._credential(vault_id, credential_id)
        return Validation(
            credential_id=credential_id,
            status="valid",
            refreshable=view.refreshable,
            http_status=None,
            refresh=None,
        )

    def _vault(self, vault_id: str) -> dict[str, CredentialView]:
        self._require_up()
        if vault_id not in self.vaults:
            raise Rejected("unknown_vault", "there is none", field="vault_id")
        return self.vaults[vault_id]

    def _credential(self, vault_id: str, credential_id: str) -> CredentialView:
        found = self._vault(vault_id).get(credential_id)
        if found is None:
            raise Rejected("unknown_credential", "there is none", field="credential_id")
        return found

    def _require_up(self) -> None:
        if self.down:
            raise Transient("provider_unavailable", "it does not answer", retry_after=5)
