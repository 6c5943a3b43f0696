"""One process: its settings, signals and exit code, and what runs in it until it is told to stop.

`main.py` of gateway, agent-worker and recorder builds the parts and hands them to `run`; what the three do alike
is here. Exit codes: 0 stopped as asked, 1 something broke (start it again), 2 a setting is wrong, 3 the brake was
pulled.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import resource
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import uvloop

from shared import logs, telemetry
from shared.bus.brake import Braked
from shared.errors import WrongSetting
from shared.forks import Forks, Lifeline
from shared.settings import ProcessSettings

STOPPED, BROKEN, MISCONFIGURED, BRAKED = 0, 1, 2, 3
EXIT_CODES = "Exit codes: 0 stopped, 1 broken (start it again), 2 a setting is wrong, 3 too many bad records."

S = TypeVar("S", bound=ProcessSettings)
T = TypeVar("T")
Work = Callable[[S, asyncio.Event], Awaitable[None]]
# What stands around the work: the processes beside this one, or the one it was forked from.
Beside = Callable[[asyncio.Event], AbstractAsyncContextManager[None]]


def run(service: str, does: str, kind: type[S], work: Work[S]) -> int:
    """Do `work` until SIGTERM or SIGINT; returns the exit code.

    `does` is the sentence of `--help`. `kind` makes the settings and raises ValueError that names the variable.
    `work` gets the settings and the event that a signal sets; it returns when it has stopped, and raises when it
    can't go on. Spans that wait are exported before the return.
    """
    return run_several(service, does, kind, lambda _: {service: work})


def run_several(
    service: str, does: str, kind: type[S], works: Callable[[S], Mapping[str, Work[S]]]
) -> int:
    """As `run`, with several processes: `works` returns what each does, by name. The first is this process's; the
    others are forked from it and end with it. What `works` opens is open in all of them; it raises OSError for what
    can't be opened."""
    # `main.py` turned the collector off before its imports: what they made stays.
    gc.freeze()
    # Some dozens of requests at once are more young objects than the default of 700, and none of them is garbage.
    gc.set_threshold(10_000, 10, 10)
    gc.enable()
    _ready_to_crash()
    argparse.ArgumentParser(
        prog=f"python -m services.{service.replace('-', '_')}.main",
        description=does,
        epilog=f"Settings come from the environment (docs/operations.md):\n\n{_listed(kind)}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        settings = kind()
        logs.configure(service, settings.telemetry.turnstile_log_level, settings.secrets)
    except ValueError as error:
        sys.stderr.write(f"{service}: wrong setting: {error}\n")
        return MISCONFIGURED
    try:
        (_, first), *others = works(settings).items()
    except OSError:
        logs.get(service).exception("broke")
        return BROKEN
    forks = Forks({name: partial(_forked, service, name, settings, one) for name, one in others})
    return _traced(service, settings.instance, settings, first, forks.beside)


def _ready_to_crash() -> None:
    """A crash that no handler sees leaves the place in the code on stderr, and no image of the memory, where keys
    and secrets lie. Processes that are forked later do likewise."""
    faulthandler.enable()
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def _forked(service: str, name: str, settings: S, work: Work[S], parent: Lifeline) -> int:
    return _traced(service, f"{settings.instance}-{name}", settings, work, parent.beside)


def _traced(service: str, instance: str, settings: S, work: Work[S], beside: Beside) -> int:
    archive = settings.archive.clickhouse_url.get_secret_value()
    spans = telemetry.start(service, instance, settings.telemetry, archive)
    try:
        return _run(service, settings, work, beside)
    finally:
        spans.shutdown()


def _listed(kind: type[ProcessSettings]) -> str:
    """The variables of a process for `--help`."""
    return "\n".join(
        textwrap.fill(
            f"{one.name}{f'={one.default}' if one.default else ''}: {one.description}",
            width=100,
            initial_indent="  ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for one in kind.variables()
    )


def _run(service: str, settings: S, work: Work[S], beside: Beside) -> int:
    log = logs.get(service)
    try:
        uvloop.run(_until_signal(log, settings, work, beside))
    except Braked as error:
        log.error("stopped_by_brake", error=str(error))
        return BRAKED
    except WrongSetting as error:
        log.error("wrong_setting", error=str(error))
        return MISCONFIGURED
    except Exception:
        log.exception("broke")
        return BROKEN
    log.info("stopped")
    return STOPPED


async def _until_signal(log: Any, settings: S, work: Work[S], beside: Beside) -> None:
    stopping = asyncio.Event()

    def stop() -> None:
        log.info("stopping")
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with beside(stopping):
        await work(settings, stopping)


@asynccontextmanager
async def beside(
    stopping: asyncio.Event, **loops: Callable[[], Awaitable[object]]
) -> AsyncIterator[None]:
    """Run loops while the block runs; the process ends when one of them does.

    A loop that ends sets `stopping`, so that the block ends in good order. After the block the loops are cancelled,
    and what one of them had raised is raised; RuntimeError for one that was cancelled before.
    """
    ending = asyncio.Event()
    tasks = [
        asyncio.create_task(_wait(name, loop, ending), name=name) for name, loop in loops.items()
    ]
    for task in tasks:
        task.add_done_callback(lambda task: _ended(task, stopping))
    try:
        yield
    finally:
        ended = [task for task in tasks if task.done()]
        ending.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


async def _wait(name: str, loop: Callable[[], Awaitable[object]], ending: asyncio.Event) -> None:
    try:
        await loop()
    except asyncio.CancelledError:
        if ending.is_set():
            raise
        # A library's future that was cancelled, say: a process without this work would only seem to live.
        raise RuntimeError(f"{name} was cancelled, and nobody asked for it") from None


def _ended(task: asyncio.Task[None], stopping: asyncio.Event) -> None:
    if not task.cancelled():
        logs.get("process").critical(
            "background_work_ended", work=task.get_name(), error=repr(task.exception())
        )
        stopping.set()


async def until(stopping: asyncio.Event, **loops: Callable[[], Awaitable[object]]) -> None:
    """Run loops until told to stop, or until one ends. Raises what a loop raises."""
    async with beside(stopping, **loops):
        await stopping.wait()


async def unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns or raises; None when told to stop before that, and then it is cancelled."""
    task, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for one in (task, stop):
            one.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


@asynccontextmanager
async def on_stop(stopping: asyncio.Event, call: Callable[[], object]) -> AsyncIterator[None]:
    """While the block runs, `call` is called when `stopping` is set."""

    async def wait() -> None:
        await stopping.wait()
        call()

    task = asyncio.create_task(wait(), name="on-stop")
    try:
        yield
    finally:
        task.cancel()
