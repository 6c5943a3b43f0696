"""The tenant of a session, where there is one tenant."""

from __future__ import annotations

from typing import Annotated

import typer

from services.operator.failures import Impossible
from shared.settings import TenantSettings

Tenant = Annotated[
    str, typer.Option(help="Whose session; may be left out where there is one tenant.")
]


def owner(tenant: str) -> str:
    """`tenant`, or the only one there is. Raises Impossible when it must be said."""
    if tenant:
        return tenant
    known = TenantSettings().known_tenants or frozenset()
    if len(known) != 1:
        raise Impossible("say whose session it is: --tenant NAME")
    return next(iter(known))
