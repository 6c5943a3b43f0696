"""A user is erased on a whole stack: nothing of what was said is left but in Kafka, and the others keep all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.clients.gateway import Json
from tests.e2e.api import Api
from tests.e2e.archive import Archive
from tests.e2e.provider import Provider
from tests.e2e.publishing import publishing, record, turn
from tests.e2e.refused import assert_refused
from tests.e2e.remains import MERGE_TREES, in_archive, in_files, in_sql
from tests.e2e.tenants import ACME
from tests.e2e.test_audit import turnstile
from tests.e2e.waiting import eventually
from tests.stack import LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
USER, OTHER_USER = "erased-user", "kept-user"
MARKER, KEPT = "xq7zmarkerv9kw", "yr8wkeptp3lm"
HELD = "[[script: tools rounds=2 calls=1 hold=1]]"


async def talked(api: Api, session: str, user: str, marker: str) -> None:
    """A session with the marker in title, metadata, a turn, its reply and a tool's result."""
    await api.post(
        "/v1/sessions",
        {"session_id": session, "user_id": user, "title": marker, "metadata": {"note": marker}},
        201,
    )
    await api.say(session, "t1", f"{marker} [[script: custom_tool]]")
    await api.turn_in(session, "t1", "requires_action")
    (action,) = (await api.session(session))["pending_actions"]
    answer = {"custom_tool_use_id": action["tool_use_id"], "content": f"result {marker}"}
    await api.post(f"/v1/sessions/{session}/tool_results", answer)
    await api.turn_in(session, "t1", "completed")


async def busy(api: Api, provider: Provider, session: str, marker: str) -> None:
    """Another of the user's, with a turn that runs and one that waits."""
    await api.post("/v1/sessions", {"session_id": session, "user_id": USER, "title": marker}, 201)
    await api.say(session, "t1", f"{marker} {HELD}")
    await provider.prompted(ACME, session)
    await api.say(session, "t2", f"then {marker}")


async def parked(api: Api, session: str, marker: str) -> None:
    """And one whose turn waits for somebody."""
    await api.post("/v1/sessions", {"session_id": session, "user_id": USER}, 201)
    await api.say(session, "t1", f"{marker} [[script: confirm]]")
    await api.turn_in(session, "t1", "requires_action")


async def remains(stack: LocalStack, archive: Archive, marker: str) -> dict[str, list[str]]:
    folders = stack.settings.folders
    engine = await in_files(folders.root / "clickhouse", marker)
    return {
        "sql": await in_sql(stack, marker),
        "archive": await in_archive(archive, marker),
        "engine": engine,
        "logs": await in_files(folders.log, marker),
    }


async def plainly_stored(archive: Archive) -> None:
    """New parts keep `data` uncompressed, so that files can be searched, and go soon once replaced."""
    await archive.query("ALTER TABLE session_events MODIFY COLUMN data String CODEC(NONE)")
    for (table,) in await archive.query(MERGE_TREES):
        await archive.query(f"ALTER TABLE `{table}` MODIFY SETTING old_parts_lifetime = 1")


async def dead(stack: LocalStack, session: str) -> list[dict[str, Any]]:
    """The session's dead letters as `turnstile dead list --all` shows them."""
    code, out = await turnstile(stack, "dead", "list", "--all", "--json", "--session", session)
    assert code == 0
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


async def test_a_user_is_erased(
    local_stack: LocalStack, api: Api, archive: Archive, provider: Provider, tmp_path: Path
) -> None:
    await plainly_stored(archive)
    await talked(api, "erase-done", USER, MARKER)
    await talked(api, "erase-kept", OTHER_USER, KEPT)
    await parked(api, "erase-parked", MARKER)
    await busy(api, provider, "erase-busy", MARKER)
    mine = ["erase-busy", "erase-done", "erase-parked"]
    sessions = {name: (await provider.of(ACME, name))[0] for name in (*mine, "erase-kept")}
    async with publishing(local_stack.kafka) as publisher:
        bad = record(
            "turn.requested", ACME, "erase-done", turn_id="t9", content=MARKER, on_busy="?"
        )
        await publisher.publish(bad)

        async def letter() -> dict[str, Any] | None:
            return next(iter(await dead(local_stack, "erase-done")), None)

        place = await eventually(letter, "the dead letter")
        where = f"{place['partition']}/{place['offset']}"
        await archive.complete(ACME, "erase-done", (await api.settled("erase-done"))["last_seq"])
        before = await remains(local_stack, archive, MARKER)
        assert before["engine"], "the search of files finds nothing, so it would show nothing"
        assert {"worker_inbox", "gateway_sessions"} <= set(before["sql"])
        kept = await api.events("erase-kept")

        out = tmp_path / "certificate.json"
        arguments = ("--user", USER, "--tenant", ACME, "--yes", "--timeout", "400")
        code, said = await turnstile(
            local_stack, "erase", *arguments, "--out", str(out), seconds=500
        )
        certificate = json.loads(out.read_text())
        assert (code, certificate["complete"]) == (0, True), said
        assert json.loads(said) == certificate

        # In every store, its files, and what the services logged.
        assert await remains(local_stack, archive, MARKER) == {place: [] for place in before}
        for name in mine:
            await provider.deleted(sessions[name])
            await says_so(api, name)
        code, _ = await turnstile(local_stack, "dead", "show", where)
        assert (code, await dead(local_stack, "erase-done")) == (1, [])

        assert MARKER not in out.read_text()
        names_it_all(certificate, mine, sessions["erase-done"])

        assert await api.events("erase-kept") == kept
        await others_keep_theirs(local_stack, archive)

        # What comes later is told that it is too late, and nothing of it stays.
        await publisher.publish(turn(ACME, "erase-done", "late", f"late {MARKER}"))
        late = await api.turn_in("erase-done", "late", "refused")
        assert late["error"]["type"] == "session_erased"

    async def nothing_again() -> bool:
        return not await in_sql(local_stack, MARKER)

    await eventually(nothing_again, "no row with what came too late")
    assert await in_archive(archive, MARKER) == []


async def others_keep_theirs(stack: LocalStack, archive: Archive) -> None:
    found = await remains(stack, archive, KEPT)
    assert {"worker_inbox", "gateway_sessions"} <= set(found["sql"])
    assert "session_events" in found["archive"]


def names_it_all(certificate: Json, sessions: list[str], provider_session: str) -> None:
    """What was erased where, and until when Kafka has copies."""
    by_session = {about["session_id"]: about for about in certificate["sessions"]}
    assert sorted(by_session) == sessions
    done = by_session["erase-done"]
    assert done["user_id"] == USER
    assert done["provider"]["sessions_deleted"] == [provider_session]
    assert done["sql"]["rows_erased"]["worker_inbox"] >= 3
    assert done["clickhouse"]["rows_deleted"]["session_events"] > 10
    assert done["clickhouse"]["rows_deleted"]["turns"] >= 1
    assert done["dead_letters"] == {"made_unreadable": 1}
    topics = {about["topic"]: about for about in certificate["kafka"]}
    assert set(topics) >= {"turnstile.inputs.v1", "turnstile.events.v1", "turnstile.dead.v1"}
    assert topics["turnstile.events.v1"]["retention_ms"] == 7 * 24 * 3600 * 1000
    until = topics["turnstile.events.v1"]["copies_last_until"]
    assert until > certificate["looked_again_at"]


async def says_so(api: Api, session: str) -> None:
    page = await api.session(session)
    assert (page["status"], page["title"], page["metadata"]) == ("erased", None, None)
    path = f"/v1/sessions/{session}"
    for read in (f"{path}/events", f"{path}/replay?speed=0", f"{path}?at_seq=1"):
        assert_refused(await api.http.get(read), 409, "session_erased")
    pages = await api.http.get(f"{path}/events", headers={"Accept": "application/json"})
    assert_refused(pages, 409, "session_erased")
    assert_refused(await api.http.get(f"{path}/turns/t1"), 404, "unknown_turn")


async def test_an_erasure_outlives_its_processes(
    local_stack: LocalStack, api: Api, archive: Archive, provider: Provider, tmp_path: Path
) -> None:
    """Worker and recorder are killed as soon as it was asked for, and once more when it is under way."""
    await plainly_stored(archive)
    await talked(api, "erase-killed", "killed-user", MARKER)
    (session,) = await provider.of(ACME, "erase-killed")
    last = (await api.settled("erase-killed"))["last_seq"]
    await archive.complete(ACME, "erase-killed", last)
    former = {part: local_stack.pid(part) for part in ("agent-worker-1", "recorder")}
    answer = await api.http.delete("/v1/sessions/erase-killed")
    assert answer.status_code == 202
    for part, pid in former.items():
        local_stack.kill(part)
        await local_stack.back(part, pid)

    async def noted() -> bool:
        where = "tenant_id = 'acme' AND session_id = 'erase-killed'"
        return bool(await archive.count(f"SELECT count() FROM erasures WHERE {where}"))

    await eventually(noted, "the recorder's tombstone")
    local_stack.kill("recorder")
    out = tmp_path / "certificate.json"
    arguments = ("--session", "erase-killed", "--yes", "--timeout", "400", "--out", str(out))
    code, said = await turnstile(local_stack, "erase", *arguments, seconds=500)
    assert code == 0, said
    assert (await remains(local_stack, archive, MARKER))["archive"] == []
    assert await in_sql(local_stack, MARKER) == []
    await provider.deleted(session)


async def test_what_cannot_be_erased_is_said(local_stack: LocalStack) -> None:
    code, out = await turnstile(local_stack, "erase", "--session", "nobody-knows-it", "--yes")
    assert (code, out) == (1, "")
    code, _ = await turnstile(local_stack, "erase", "--yes")
    assert code == 2
