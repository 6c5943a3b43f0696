"""Agents as code on the simulator through the real SDK: plan, apply, change, drift, kills, and two at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from shutil import copy
from typing import TypeVar

import pytest

from services.operator.agents.apply import Apply
from services.operator.agents.declared import Declared, Invalid
from services.operator.agents.lock import NAME, Entry, Lock, alone
from services.operator.agents.plan import Remote
from services.operator.agents.provider import Provider
from services.operator.failures import Impossible
from tests.integration.agents_folder import FILES, Desk, actions, provider, write

pytestmark = pytest.mark.integration
T = TypeVar("T")
NAMES = ["work", "coder", "plain", "support"]
ALL = {"work": 0, "coder": 1, "plain": 1, "support": 1}


@pytest.fixture
async def there() -> AsyncIterator[Provider]:
    async with provider() as it:
        yield it


@pytest.fixture
def desk(there: Provider, tmp_path: Path) -> Desk:
    write(tmp_path)
    return Desk(tmp_path, there, there.base_url)


def change(desk: Desk, name: str = "support", says: str = "Answer in French.") -> None:
    path = desk.folder / f"agents/{name}.md"
    path.write_text(path.read_text() + says + "\n")


async def agents(there: Provider) -> dict[str, Remote]:
    """Those that are not archived, by name; two of one name fail."""
    found = [one for one in await there.everything() if one.kind == "agent" and not one.archived]
    names = [one.body["name"] for one in found]
    assert len(set(names)) == len(names), names
    return {one.body["name"]: one for one in found}


async def test_a_second_apply_changes_nothing_and_a_change_is_one_new_version(desk: Desk) -> None:
    assert actions(await desk.plan()) == dict.fromkeys(NAMES, "create")
    await desk.apply()
    assert dict(desk.told) == ALL
    first = (desk.folder / NAME).read_text()
    assert actions(await desk.plan()) == dict.fromkeys(NAMES, "unchanged")
    await desk.apply()
    assert (desk.folder / NAME).read_text() == first
    change(desk)
    planned = {step.declared.name: step for step in await desk.plan()}
    assert actions(list(planned.values())) == {
        **dict.fromkeys(NAMES, "unchanged"),
        "support": "update",
    }
    assert planned["support"].changes == ("system",)
    await desk.apply()
    assert desk.lock.entries["./agents/support.md"].version == 2
    assert actions(await desk.plan()) == dict.fromkeys(NAMES, "unchanged")


async def test_what_is_taken_out_of_a_file_is_taken_out_there(desk: Desk, there: Provider) -> None:
    await desk.apply()
    write(desk.folder, {"agents/support.md": "---\nname: Support\n---\nBriefly.\n"})
    await desk.apply()
    body = (await agents(there))["Support"].body
    assert (body["description"], body["tools"]) == (None, [])
    assert "team" not in body["metadata"]
    assert actions(await desk.plan())["support"] == "unchanged"


async def test_an_environment_gets_a_limited_network_and_is_changed_in_place(
    desk: Desk, there: Provider
) -> None:
    await desk.apply()
    write(desk.folder, {"environments/work.yaml": "name: work\ndescription: for all\n"})
    assert actions(await desk.plan())["work"] == "update"
    await desk.apply()
    (place,) = [one for one in await there.everything() if one.kind == "environment"]
    assert place.body["description"] == "for all"
    assert place.body["config"]["networking"]["type"] == "limited"
    assert actions(await desk.plan())["work"] == "unchanged"


async def test_a_wrong_field_is_named_with_its_line_and_nothing_is_applied(
    desk: Desk, there: Provider
) -> None:
    wrong = FILES["agents/support.md"].replace("always_ask", "always_maybe")
    write(
        desk.folder,
        {"agents/support.md": wrong, "agents/plain.md": "---\nname: P\ntolls: []\n---\n"},
    )
    with pytest.raises(Invalid) as found:
        await desk.apply()
    assert [(problem.file, problem.line, problem.field) for problem in found.value.problems] == [
        ("./agents/plain.md", 3, "tolls"),
        ("./agents/support.md", 8, "tools[0].default_config.permission_policy.type"),
    ]
    assert "tools" in found.value.problems[0].words
    assert "always_allow" in found.value.problems[1].words
    assert await there.everything() == []


async def test_what_was_changed_outside_is_named_and_only_force_overwrites_it(
    desk: Desk, there: Provider
) -> None:
    await desk.apply()
    support = (await agents(there))["Support"]
    await there._beta.agents.update(support.id, description="by hand")
    blocked = {step.declared.name: step for step in await desk.plan()}["support"]
    assert blocked.action == "blocked"
    assert support.id in blocked.why
    assert "--force" in blocked.why
    change(desk, "coder")
    with pytest.raises(Impossible, match="nothing was applied"):
        await desk.apply()
    assert (await agents(there))["Coder"].version == 1
    await desk.apply(force=True)
    assert (await agents(there))["Support"].body["description"] == "Answers customers."
    assert actions(await desk.plan()) == dict.fromkeys(NAMES, "unchanged")


async def test_an_archived_agent_is_named_and_made_anew_only_by_force(
    desk: Desk, there: Provider
) -> None:
    await desk.apply()
    support = (await agents(there))["Support"]
    await there.archive_agent(support.id)
    blocked = {step.declared.name: step for step in await desk.plan()}["support"]
    assert blocked.action == "blocked"
    assert "archived" in blocked.why
    await desk.apply(force=True)
    assert (await agents(there))["Support"].id != support.id


async def test_a_lost_lock_finds_what_was_made_and_a_hand_made_agent_is_adopted(
    desk: Desk, there: Provider
) -> None:
    made = await there._beta.agents.create(name="Plain", model="claude-sonnet-5-5")
    assert "--adopt" in {s.declared.name: s.why for s in await desk.plan()}["plain"]
    await desk.apply(adopt=True)
    assert (await agents(there))["Plain"].id == made.id
    (desk.folder / NAME).unlink()
    assert actions(await desk.plan()) == dict.fromkeys(NAMES, "record")
    change(desk)
    assert actions(await desk.plan())["support"] == "blocked"
    await desk.apply(adopt=True)
    assert actions(await desk.plan()) == dict.fromkeys(NAMES, "unchanged")
    await agents(there)


async def test_a_lock_of_the_providers_own_tool_is_kept_and_of_another_server_refused(
    desk: Desk, there: Provider
) -> None:
    await desk.apply()
    path = desk.folder / NAME
    theirs = json.loads(path.read_text())
    theirs["origin"]["organization_id"] = "org"
    entry = theirs["resources"]["./agents/support.md"]
    del entry["turnstile"]
    entry["remote_hash"] = "abc"
    path.write_text(json.dumps(theirs))
    change(desk)
    assert "--adopt" in {s.declared.name: s.why for s in await desk.plan()}["support"]
    await desk.apply(adopt=True)
    kept = json.loads(path.read_text())
    assert kept["origin"]["organization_id"] == "org"
    assert kept["resources"]["./agents/support.md"]["remote_hash"] == "abc"
    with pytest.raises(Impossible, match="ANTHROPIC_BASE_URL"):
        Lock(path, "https://elsewhere.example.com")


class Killed(Exception):
    """The process died here."""


class Mortal:
    """A provider and a lock that count side effects and die before or after one of them."""

    def __init__(self, there: Provider, at: int, *, landed: bool) -> None:
        self.there, self.at, self.landed, self.count = there, at, landed, 0

    async def everything(self) -> list[Remote]:
        return await self.there.everything()

    async def create(self, one: Declared, tenant: str) -> Remote:
        return await self._counted(lambda: self.there.create(one, tenant))

    async def update(self, one: Declared, there: Remote, tenant: str) -> Remote:
        return await self._counted(lambda: self.there.update(one, there, tenant))

    async def archive_agent(self, id: str) -> None:
        await self._counted(lambda: self.there.archive_agent(id))

    def put(self, lock: Lock, file: str, entry: Entry) -> None:
        self.die(before=True)
        Lock.put(lock, file, entry)
        self.die()

    async def _counted(self, act: Callable[[], Awaitable[T]]) -> T:
        self.die(before=True)
        done = await act()
        self.die()
        return done

    def die(self, *, before: bool = False) -> None:
        self.count += before
        if self.count == self.at and before != self.landed:
            raise Killed


class MortalLock(Lock):
    mortal: Mortal

    def put(self, file: str, entry: Entry) -> None:
        self.mortal.put(self, file, entry)


async def dying(desk: Desk, at: int, *, landed: bool) -> int:
    """Apply until the side effect `at`; returns how many there were."""
    mortal = Mortal(desk.there, at, landed=landed)  # type: ignore[arg-type]
    lock = MortalLock(desk.folder / NAME, desk.base_url)
    lock.mortal = mortal

    async def applied(one: Declared, found: Remote) -> None:
        """Putting a version forward is a side effect too."""
        mortal.die(before=True)
        await desk._applied(one, found)
        mortal.die()

    planned = await desk.plan()
    with suppress(Killed):
        await Apply(mortal, lock, desk.tenant, applied).run(planned)
    return mortal.count


async def test_killed_at_every_side_effect_and_run_again_it_ends_the_same(
    there: Provider, tmp_path: Path
) -> None:
    """Of the first apply, and of one that changes two agents of three."""
    effects = 0
    for landed in (False, True):
        at = 0
        while True:
            at += 1
            folder = tmp_path / f"{landed}{at}"
            # Each try is a tenant of its own: the provider is shared, and each finds only its own.
            files = {k: v.replace("name: ", f"name: {landed}{at}", 1) for k, v in FILES.items()}
            write(folder, {k: v for k, v in files.items() if k.startswith("agents")})
            desk = Desk(folder, there, there.base_url, tenant=f"{landed}{at}")
            fresh = await _killed_twice(desk, at, landed)
            effects += 1
            found = [
                one
                for one in await there.everything()
                if one.metadata.get("turnstile_tenant") == desk.tenant and not one.archived
            ]
            versions = {one.metadata["turnstile_file"]: one.version for one in found}
            assert versions == {f: e.version for f, e in desk.lock.entries.items()}
            assert sorted(versions.values()) == [1, 2, 2]
            assert len(found) == 3
            assert dict(desk.told) == {"coder": 2, "plain": 1, "support": 2}
            if fresh < at:
                break
    assert effects > 18


async def _killed_twice(desk: Desk, at: int, landed: bool) -> int:
    count = await dying(desk, at, landed=landed)
    await desk.apply()
    change(desk)
    change(desk, "coder")
    await dying(desk, at, landed=landed)
    await desk.apply()
    return count


async def test_of_two_who_change_at_once_one_is_told_and_nothing_of_it_is_lost(
    desk: Desk, there: Provider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await desk.apply()
    other = Desk(tmp_path_factory.mktemp("other"), there, there.base_url)
    write(other.folder)
    copy(desk.folder / NAME, other.folder / NAME)
    change(desk, says="Mine.")
    change(other, says="Theirs.")
    mine, theirs = await desk.plan(), await other.plan()
    await desk.apply(mine)
    with pytest.raises(Impossible, match="somebody else was quicker"):
        await other.apply(theirs)
    assert "Mine." in (await agents(there))["Support"].body["system"]
    assert actions(await other.plan())["support"] == "blocked"


async def test_of_two_who_create_at_once_one_agent_stays(
    desk: Desk, there: Provider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Desk(tmp_path_factory.mktemp("other"), there, there.base_url)
    files = {name: text for name, text in FILES.items() if name == "agents/plain.md"}
    write(other.folder, files)
    (desk.folder / "environments/work.yaml").unlink()
    mine, theirs = await desk.plan(), await other.plan()
    await desk.apply(mine)
    with pytest.raises(Impossible, match="at the same time"):
        await other.apply(theirs)
    assert (await agents(there))["Plain"].id == desk.lock.entries["./agents/plain.md"].id
    assert other.lock.entries == {}


def test_one_folder_is_applied_by_one_process_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(Impossible, match="another process"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


async def test_of_two_environments_of_one_name_the_second_is_told(
    desk: Desk, there: Provider
) -> None:
    planned = await desk.plan()
    await there._beta.environments.create(name="work")
    with pytest.raises(Impossible, match="somebody else was quicker"):
        await desk.apply(planned)
    assert "--adopt" in {s.declared.name: s.why for s in await desk.plan()}["work"]
    await asyncio.gather(desk.apply(adopt=True))
    assert actions(await desk.plan()) == dict.fromkeys(NAMES, "unchanged")
