"""A process: its exit codes, what a wrong setting says, and what runs in it until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared import process
from shared.settings import ArchiveSettings, DatabaseSettings, TenantSettings

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
MAINS = ["services.gateway.main", "services.agent_worker.main", "services.recorder.main"]
WORK = """
import os, signal, sys
from shared.bus.brake import Braked
from shared.process import run
from shared.settings import ProcessSettings

async def work(settings, stopping):
    {body}

sys.exit(run("recorder", "Tries one thing.", ProcessSettings, work))
"""


def ended(body: str) -> tuple[int, list[dict[str, object]]]:
    """Exit code and log lines of a process whose work is `body`."""
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", WORK.format(body=body)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stderr.decode().splitlines()]


def test_a_process_told_to_stop_ends_with_0() -> None:
    code, said = ended("os.kill(os.getpid(), signal.SIGTERM); await stopping.wait()")
    assert (code, [line["event"] for line in said]) == (0, ["stopping", "stopped"])


def test_work_that_finds_a_setting_wrong_ends_the_process_with_2_and_says_which() -> None:
    code, said = ended("from shared.errors import WrongSetting; raise WrongSetting('TURNSTILE_X')")
    assert (code, [line["event"] for line in said]) == (2, ["wrong_setting"])
    assert said[0]["error"] == "TURNSTILE_X"


def test_work_that_breaks_ends_the_process_with_1_and_says_why() -> None:
    code, said = ended("raise RuntimeError('out of paper')")
    assert (code, [line["event"] for line in said]) == (1, ["broke"])
    assert "RuntimeError: out of paper" in str(said[0]["exception"])


def test_a_pulled_brake_ends_the_process_with_3() -> None:
    code, said = ended("raise Braked('100 records in a row')")
    assert code == 3
    assert [(line["event"], line["error"]) for line in said] == [
        ("stopped_by_brake", "100 records in a row")
    ]


@pytest.mark.parametrize("main", MAINS)
def test_a_wrong_setting_is_named_by_its_variable_and_ends_the_process_with_2(main: str) -> None:
    environment = {**os.environ, "TURNSTILE_LOG_LEVEL": "loud", "TURNSTILE_API_KEYS": "k-1234:acme"}
    done = subprocess.run(
        [sys.executable, "-m", main], cwd=ROOT, env=environment, capture_output=True, timeout=60
    )
    assert done.returncode == 2
    assert "wrong setting: TURNSTILE_LOG_LEVEL" in done.stderr.decode()


def test_what_must_not_be_told_is_found_in_every_secret_field() -> None:
    url = "http://me:p%40ss-word@host:8123/turnstile"
    assert ArchiveSettings(clickhouse_url=SecretStr(url)).secrets == [
        url,
        "p%40ss-word",
        "p@ss-word",
    ]
    assert TenantSettings(api_keys=SecretStr("key-a:acme,key-b:acme:read")).secrets == [
        "key-a",
        "key-b",
    ]


def test_a_url_that_is_none_is_named_by_its_variable() -> None:
    with pytest.raises(ValueError, match="TURNSTILE_DATABASE_URL is no URL"):
        _ = DatabaseSettings(database_url=SecretStr("http://[oops")).secrets


async def test_a_loop_that_breaks_stops_the_process_and_is_raised_after_the_block() -> None:
    stopping, order = asyncio.Event(), list[str]()

    async def breaks() -> None:
        raise ConnectionError("gone")

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("cancelled")

    async def block() -> None:
        async with process.beside(stopping, breaks=breaks, goes_on=goes_on):
            await stopping.wait()
            order.append("block")

    with pytest.raises(ConnectionError, match="gone"):
        await asyncio.wait_for(block(), 5)
    assert order == ["block", "cancelled"]


async def test_a_loop_that_was_cancelled_by_nobody_of_ours_ends_the_process_too() -> None:
    stopping = asyncio.Event()

    async def reads() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.cancel)
        await future

    with pytest.raises(RuntimeError, match="reads was cancelled"):
        await asyncio.wait_for(process.until(stopping, reads=reads), 5)
    assert stopping.is_set()


async def test_loops_are_cancelled_when_the_process_is_told_to_stop() -> None:
    stopping, cancelled = asyncio.Event(), asyncio.Event()

    async def goes_on() -> None:
        try:
            stopping.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await asyncio.wait_for(process.until(stopping, goes_on=goes_on), 5)
    assert cancelled.is_set()


async def test_what_is_awaited_is_given_up_when_the_process_is_told_to_stop() -> None:
    stopping = asyncio.Event()

    async def connected() -> str:
        return "connected"

    async def waits() -> str:
        stopping.set()
        await asyncio.Event().wait()
        return "never"

    assert await process.unless(stopping, connected()) == "connected"
    assert await asyncio.wait_for(process.unless(stopping, waits()), 5) is None


async def test_being_told_to_stop_calls_what_ends_the_block() -> None:
    stopping, called = asyncio.Event(), asyncio.Event()
    async with process.on_stop(stopping, called.set):
        assert not called.is_set()
        stopping.set()
        await asyncio.wait_for(called.wait(), 5)


def test_ctrl_c_stops_a_process_too() -> None:
    code, said = ended(f"os.kill(os.getpid(), {int(signal.SIGINT)}); await stopping.wait()")
    assert (code, said[-1]["event"]) == (0, "stopped")
