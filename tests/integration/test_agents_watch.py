"""`turnstile agents watch` on a real archive and database: which canary is ended, and that one is enough."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner, Result

from infra.local.ports import free_ports
from infra.postgres.migrate import migrate_async
from services.operator.agents import release
from services.operator.agents.release_rows import change, releases
from services.operator.main import build
from services.operator.reruns.plan import PREFIX
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.session.releases import Release
from tests.clickhouse_archive import emptied_archive
from tests.clickhouse_rows import event, turn
from tests.integration.test_archive_facts import Archive

pytestmark = pytest.mark.integration
ENOUGH = 20


class Place:
    """An archive and a database, with one agent: version 1 is pinned, version 2 a canary."""

    def __init__(self, url: str, archive: Archive) -> None:
        self.url, self.archive = url, archive
        self.count = 0

    def forward(self, version: int, share: int = 0) -> None:
        def to(old: Release | None) -> Release:
            return release.put_forward(old, "", "support", "agent_1", version, share)

        asyncio.run(change(self.url, "", "support", to, "applied"))

    def ran(
        self, version: int, status: str, times: int, *, cost: float = 0.5, session: str = "s"
    ) -> None:
        """So many turns, each in a session of its own, which begin and end now."""
        at = rfc3339(utcnow())
        events = []
        for _ in range(times):
            self.count += 1
            id, name = f"{session}{self.count}", f"t{self.count}"
            told: dict[str, Any] = {"turn_id": name, "agent": "agent_1", "agent_version": version}
            ended = turn(status, cost, turn_id=name, ended_at=at)
            events += [
                event(
                    1, "turn.started", turn("running", **told), session_id=id, turn_id=name, at=at
                ),
                event(2, f"turn.{status}", ended, session_id=id, turn_id=name, at=at),
            ]
        self.archive.put(*events)

    def watch(self, *options: str) -> Result:
        words = ["agents", "watch", "--once", "--min-turns", str(ENOUGH), *options]
        return CliRunner().invoke(build(), words)

    @property
    def release(self) -> tuple[Release, str]:
        ((found, why),) = asyncio.run(releases(self.url))
        return found, why


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    url = f"sqlite+aiosqlite:///{tmp_path}/watch.db"
    asyncio.run(migrate_async(url))
    where = emptied_archive()
    monkeypatch.setenv("TURNSTILE_DATABASE_URL", url)
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", where)
    archive = Archive(where)
    made = Place(url, archive)
    made.forward(1)
    made.forward(2, 20)
    yield made
    archive.close()


def test_a_canary_whose_errors_rise_is_rolled_back_once_and_says_why(place: Place) -> None:
    place.ran(1, "completed", 40)
    place.ran(2, "completed", 10)
    place.ran(2, "failed", 9)
    early = place.watch()
    assert early.exit_code == 0, early.output
    assert "19 turns of 20" in early.output
    place.ran(2, "failed", 1)
    found = place.watch()
    assert found.exit_code == 1, found.output
    assert "ROLLED BACK: 50.0 % of turns fail, 0.0 % of version 1" in found.output
    now, why = place.release
    assert (now.pinned, now.canary, now.share) == (1, 0, 0)
    assert why.startswith("version 2 rolled back (errors): 50.0 %")
    assert place.watch().exit_code == 0
    place.forward(2, 20)  # the same files applied again
    assert place.release[0].canary == 0


def test_a_dearer_canary_is_rolled_back_and_one_as_good_stays(place: Place) -> None:
    place.ran(1, "completed", ENOUGH)
    place.ran(2, "completed", ENOUGH)
    stays = place.watch()
    assert stays.exit_code == 0
    assert "no worse than 20 of version 1" in stays.output
    place.ran(2, "completed", ENOUGH, cost=3.0)
    assert "a turn costs $1.7500, $0.5000 on version 1" in place.watch().output
    assert place.release[0].canary == 0


def test_interrupted_turns_and_reruns_are_not_judged(place: Place) -> None:
    place.ran(1, "completed", ENOUGH)
    place.ran(2, "interrupted", ENOUGH)
    place.ran(2, "failed", ENOUGH, session=PREFIX)
    found = place.watch()
    assert found.exit_code == 0, found.output
    assert "0 turns of 20" in found.output


def test_without_the_archive_nothing_is_decided(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.ran(2, "failed", ENOUGH)
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", "http://127.0.0.1:9/turnstile")
    found = place.watch()
    assert found.exit_code == 1
    assert "watching canaries" in found.output
    assert place.release[0].canary == 2


def test_a_watch_goes_on_until_it_is_stopped_and_counts(place: Place) -> None:
    """As a process: an archive that is away is told and looked at again; SIGTERM ends it with 0."""
    (port,) = free_ports(1)
    command = [str(Path(sys.executable).with_name("turnstile")), "agents", "watch"]
    process = Popen(
        [*command, "--every", "1", "--min-turns", str(ENOUGH), "--port", str(port)],
        env={**os.environ, "TURNSTILE_CLICKHOUSE_URL": "http://127.0.0.1:9/turnstile"},
        stderr=PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        lines = iter(
            process.stderr.readline, ""
        )  # the archive's client says something of its own, too
        looks = islice((line for line in lines if "nothing is decided" in line), 2)
        assert len(list(looks)) == 2
        told = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code == 0
    assert "turnstile_canaries 1.0" in told
    assert re.search(r"turnstile_canary_looks_failed_total [2-9]", told)
    assert place.release[0].canary == 2
