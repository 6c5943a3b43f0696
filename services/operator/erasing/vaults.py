"""A user's vaults, with all the secrets in them: deleted at the provider, and only then forgotten here."""

from __future__ import annotations

from services.operator.erasing.certificate import ErasedUser
from services.operator.erasing.looks import Stores


async def delete_vaults(stores: Stores, about: ErasedUser) -> None:
    """Delete the vaults that were made for the user and note them in `about`, those that are there still in `left`
    with the reason. A vault's row goes last: as long as the vault may be there it is the user's, and whoever runs
    this again finds it."""
    for vault in await stores.sql.vaults_of(about.tenant, about.user):
        why = await stores.provider.delete_vault(vault)
        if why:
            about.left.append(f"provider: vault {vault} is there: {why}")
            continue
        await stores.sql.forget_vault(vault)
        about.vaults.append(vault)
