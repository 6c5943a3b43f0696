"""Whose the provider's things are: one rule, asked seldom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from shared.errors import Transient
from shared.ownership import (
    FRESH_SECONDS,
    MOST_FRESH,
    MOST_VAULTS,
    Binding,
    Ownership,
    Scope,
    Unbound,
    vaults_for,
    verdict,
)
from shared.session.references import Kind, Reference
from tests.fakes.owners import MemoryOwners

pytestmark = pytest.mark.unit
NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
VAULT = Reference("vault", "v_1", "vault_ids[0]")
AGENT = Reference("agent", "agent_1", "agent")


class Time:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def asking(owners: MemoryOwners, time: Time | None = None, unbound: Unbound = "bind") -> Ownership:
    return Ownership(
        owners,
        unbound=unbound,
        defaults=[("agent", "agent_ours")],
        clock=lambda: NOON,
        monotonic=time or Time(),
    )


async def strange(
    ownership: Ownership, tenant_id: str, named: Sequence[Reference]
) -> Reference | None:
    found = await ownership.strange(tenant_id, named)
    return None if found is None else found.reference


@pytest.mark.parametrize(
    ("owner", "kind", "bind", "refuse"),
    [
        ("acme", "vault", "ours", "ours"),
        ("acme", "agent", "ours", "ours"),
        ("other", "vault", "strange", "strange"),
        ("other", "agent", "strange", "strange"),
        ("other", "environment", "strange", "strange"),
        (None, "agent", "ours", "strange"),
        (None, "environment", "ours", "strange"),
        (None, "vault", "bind", "strange"),
        (None, "file", "bind", "strange"),
        (None, "memory_store", "bind", "strange"),
    ],
)
def test_the_rule(owner: str | None, kind: Kind, bind: str, refuse: str) -> None:
    assert verdict(owner, "acme", kind, "bind") == bind
    assert verdict(owner, "acme", kind, "refuse") == refuse


async def test_what_nobody_had_is_the_first_ones() -> None:
    owners = MemoryOwners()
    assert await strange(asking(owners), "acme", [AGENT, VAULT]) is None
    assert await strange(asking(owners), "other", [AGENT, VAULT]) == VAULT
    assert await strange(asking(owners), "acme", [VAULT]) is None
    (kept,) = owners.rows.values()
    assert kept == Binding(
        kind="vault", id="v_1", tenant_id="acme", created_at="2026-11-21T12:00:00.000000Z"
    )


async def test_nothing_is_bound_where_that_is_refused() -> None:
    owners = MemoryOwners()
    refusing = asking(owners, unbound="refuse")
    assert await strange(refusing, "acme", [VAULT]) == VAULT
    assert await strange(refusing, "acme", [AGENT]) == AGENT
    assert not owners.rows


async def test_the_first_strange_reference_is_told() -> None:
    owners = MemoryOwners(
        [
            Binding(kind="vault", id="v_2", tenant_id="other"),
            Binding(kind="vault", id="v_1", tenant_id="acme"),
        ]
    )
    named = [VAULT, Reference("vault", "v_2", "vault_ids[1]"), Reference("vault", "v_2", "later")]
    found = await strange(asking(owners), "acme", named)
    assert found is not None
    assert found.field == "vault_ids[1]"


async def test_what_the_settings_name_is_everybodys() -> None:
    owners = MemoryOwners([Binding(kind="agent", id="agent_ours", tenant_id="other")])
    named = [Reference("agent", "agent_ours", "agent")]
    assert await strange(asking(owners, unbound="refuse"), "acme", named) is None
    assert not owners.asked


async def test_what_was_ours_is_not_asked_for_again_at_once() -> None:
    owners, time = MemoryOwners(), Time()
    ownership = asking(owners, time)
    for _ in range(3):
        assert await strange(ownership, "acme", [VAULT, VAULT]) is None
    assert len(owners.asked) == 1
    time.now = FRESH_SECONDS
    assert await strange(ownership, "acme", [VAULT]) is None
    assert len(owners.asked) == 2


async def test_what_was_strange_is_asked_for_again() -> None:
    owners = MemoryOwners([Binding(kind="vault", id="v_1", tenant_id="other")])
    ownership = asking(owners)
    assert await strange(ownership, "acme", [VAULT]) == VAULT
    assert await strange(ownership, "other", [VAULT]) is None
    assert await strange(ownership, "acme", [VAULT]) == VAULT
    owners.rows.clear()
    assert await strange(ownership, "acme", [VAULT]) is None


async def test_what_is_kept_is_bounded() -> None:
    ownership = asking(MemoryOwners())
    for number in range(MOST_FRESH + 100):
        await strange(ownership, "acme", [Reference("agent", f"agent_{number}", "agent")])
    assert len(ownership._fresh) == MOST_FRESH


@pytest.mark.parametrize("id", ["v\0", "v\n", "v\u200b"])
async def test_what_can_be_no_id_is_not_there_and_not_asked_for(id: str) -> None:
    owners = MemoryOwners()
    named = Reference("vault", id, "vault_ids[0]")
    assert await strange(asking(owners), "acme", [named]) == named
    assert not owners.asked
    assert not owners.rows


async def test_without_a_database_nothing_is_allowed() -> None:
    owners = MemoryOwners()
    owners.down = True
    with pytest.raises(Transient):
        await strange(asking(owners), "acme", [VAULT])


def a_vault(id: str, project: str = "", user_id: str = "", label: str = "made") -> Binding:
    place = {"project": project, "user_id": user_id, "label": label, "created_at": id}
    return Binding(kind="vault", id=id, tenant_id="acme", **place)


VAULTS = [
    a_vault("v1_user", user_id="ada"),
    a_vault("v2_both", project="web", user_id="ada"),
    a_vault("v3_project", project="web"),
    a_vault("v4_tenant"),
    a_vault("v5_other_user", user_id="bob"),
    a_vault("v6_other_project", project="app"),
    a_vault("v7_named", label=""),
]


@pytest.mark.parametrize(
    ("policy", "project", "found"),
    [
        (("project", "tenant", "user"), "web", ["v3_project", "v4_tenant", "v1_user", "v2_both"]),
        (("user", "tenant"), "web", ["v1_user", "v2_both", "v4_tenant"]),
        (("project", "tenant", "user"), "", ["v4_tenant", "v1_user"]),
        (("tenant",), "web", ["v4_tenant"]),
        ((), "web", []),
    ],
)
def test_a_session_that_names_no_vaults_has_those_of_the_policy(
    policy: tuple[Scope, ...], project: str, found: list[str]
) -> None:
    assert list(vaults_for(VAULTS[::-1], policy, project, "ada")) == found


def test_it_has_no_more_than_it_could_name() -> None:
    many = [a_vault(f"v{number:03}") for number in range(80)]
    assert len(vaults_for(many, ("tenant",), "", "ada")) == MOST_VAULTS


async def test_of_what_the_provider_has_none_nothing_is_anybodys_and_nobody_is_asked() -> None:
    owners = MemoryOwners([Binding(kind="file", id="file_1", tenant_id="acme")])
    absent: list[Kind] = ["file"]
    ownership = Ownership(
        owners,
        unbound="bind",
        defaults=(),
        clock=lambda: NOON,
        monotonic=Time(),
        absent=absent,
    )
    named = [VAULT, Reference("file", "file_1", "resources[0].file_id")]
    found = await ownership.strange("acme", named)
    assert found is not None
    assert found.reference == named[1]
    assert found.words == "this provider has no files: leave it out"
    assert owners.asked == []
    assert VAULT.id not in {id for _, id in owners.rows}
