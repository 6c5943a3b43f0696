"""The vaults of a tenant: bound to it, kept at the provider. Nothing of a secret is kept here."""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.confirmations import Confirmations
from services.gateway.ports import Bindings, Vaults
from services.gateway.vault_bodies import (
    CredentialView,
    McpOauth,
    NewCredential,
    NewVault,
    Rotation,
    Validation,
    VaultList,
    VaultView,
)
from shared.clock import Clock
from shared.errors import Rejected
from shared.moment import rfc3339
from shared.ownership import Binding


@dataclass(frozen=True, slots=True)
class OwnVaults:
    """Every call is about a tenant, and raises Rejected (`unknown_vault`) for a vault that is not bound to it,
    before the provider is asked. `oauth`: the provider takes mcp_oauth credentials. Raises what the ports raise."""

    provider: Vaults
    bindings: Bindings
    confirmations: Confirmations
    clock: Clock
    oauth: bool = True

    async def create(self, tenant_id: str, asked: NewVault) -> VaultView:
        """A new vault, bound before anybody hears of it."""
        binding = Binding(
            kind="vault",
            id=await self.provider.create(tenant_id, asked.display_name),
            tenant_id=tenant_id,
            project=asked.project or "",
            user_id=asked.user_id or "",
            label=asked.display_name,
            created_at=rfc3339(self.clock()),
        )
        await self.bindings.bind(binding)
        return _view(binding)

    async def page(self, tenant_id: str, after: str, limit: int) -> VaultList:
        """The tenant's vaults in order of id, beyond `after`."""
        found = await self.bindings.of_tenant(tenant_id, "vault", after, limit)
        more = len(found) == limit
        return VaultList(data=[*map(_view, found)], next_cursor=found[-1].id if more else None)

    async def vault(self, tenant_id: str, vault_id: str) -> VaultView:
        return _view(await self._own(tenant_id, vault_id))

    async def delete(self, tenant_id: str, vault_id: str) -> None:
        """Delete it with all its credentials. Its binding goes last: as long as it may be there it is this
        tenant's."""
        await self._own(tenant_id, vault_id)
        await self.provider.delete(vault_id)
        await self.bindings.unbind(("vault", vault_id))

    def require_oauth(self) -> None:
        """Raise Rejected (`refused_by_provider`) where the provider takes no mcp_oauth credentials."""
        if not self.oauth:
            words = "this provider takes no mcp_oauth credentials: use a static_bearer"
            raise Rejected("refused_by_provider", words, field="auth")

    async def add(self, tenant_id: str, vault_id: str, asked: NewCredential) -> CredentialView:
        vault = await self._own(tenant_id, vault_id)
        if isinstance(asked.auth, McpOauth):
            self.require_oauth()
        return await self._stands(vault, await self.provider.add(vault_id, asked))

    async def put(self, tenant_id: str, vault_id: str, asked: NewCredential) -> CredentialView:
        """Add an OAuth credential, in the place of the one for its server where there is one."""
        vault = await self._own(tenant_id, vault_id)
        return await self._stands(vault, await self.provider.put(vault_id, asked))

    async def credentials(self, tenant_id: str, vault_id: str) -> list[CredentialView]:
        await self._own(tenant_id, vault_id)
        return await self.provider.credentials(vault_id)

    async def rotate(
        self, tenant_id: str, vault_id: str, credential_id: str, asked: Rotation
    ) -> CredentialView:
        vault = await self._own(tenant_id, vault_id)
        rotated = await self.provider.rotate(vault_id, credential_id, asked)
        return await self._stands(vault, rotated)

    async def remove(self, tenant_id: str, vault_id: str, credential_id: str) -> None:
        await self._own(tenant_id, vault_id)
        await self.provider.remove(vault_id, credential_id)

    async def validate(self, tenant_id: str, vault_id: str, credential_id: str) -> Validation:
        await self._own(tenant_id, vault_id)
        return await self.provider.validate(vault_id, credential_id)

    async def _stands(self, vault: Binding, credential: CredentialView) -> CredentialView:
        """The credential, after turns that wait for one like it were set going."""
        if credential.mcp_server_url is not None:
            await self.confirmations.connected(vault)
        return credential

    async def _own(self, tenant_id: str, vault_id: str) -> Binding:
        found = await self.bindings.binding(("vault", vault_id))
        if found is None or found.tenant_id != tenant_id:
            raise Rejected("unknown_vault", f"there is no vault {vault_id}", field="vault_id")
        return found


def _view(binding: Binding) -> VaultView:
    return VaultView(
        vault_id=binding.id,
        display_name=binding.label,
        project=binding.project or None,
        user_id=binding.user_id or None,
        created_at=binding.created_at,
    )
