"""`turnstile agents watch`: rolls canaries back that do worse than the pinned version."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import typer

from services.operator import addresses
from services.operator.agents import release
from services.operator.agents.figures import began, figures
from services.operator.agents.judge import Bounds, Figures, Verdict, judge
from services.operator.agents.release_rows import canaries, change
from services.operator.archive import ArchiveReader
from services.operator.failures import Impossible, failing_clearly
from shared import metrics
from shared.health import serve_health
from shared.session.releases import Release
from shared.settings import HealthSettings

GOOD, ROLLED_BACK = 0, 1
Look = Callable[[Release, float], Mapping[int, Figures]]


def _option(name: str, **more: Any) -> Any:
    """An option that a variable may set where somebody else starts the command."""
    return typer.Option(envvar=f"TURNSTILE_CANARY_{name}", **more)


def watch(
    once: Annotated[bool, typer.Option(help="Look once, and say by the exit code.")] = False,
    every: Annotated[
        float,
        _option("EVERY", min=1, max=86_400, help="Seconds between looks."),
    ] = 60.0,
    min_turns: Annotated[
        int, _option("MIN_TURNS", min=1, max=1_000_000, help="Nothing is judged by fewer turns.")
    ] = 50,
    errors: Annotated[
        float,
        _option("ERRORS", min=0, max=100, help="Failed turns: so many percentage points more."),
    ] = 5.0,
    cost: Annotated[
        float, _option("COST", min=0, max=10_000, help="Cost of a turn: so many percent more.")
    ] = 50.0,
    latency: Annotated[
        float,
        _option(
            "LATENCY", min=0, max=10_000, help="95th percentile of turns: so many percent more."
        ),
    ] = 50.0,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Serve /healthz and /metrics there; 0: not.")
    ] = 0,
) -> None:
    """End canaries that do worse than the pinned version, by the archive. Open provider sessions keep theirs.

    Compared are turns that ended since the canary began, with those of the pinned version from a week before on.
    Without the archive nothing is decided. Several may watch: of two that roll back one does.

    Runs until SIGTERM. Exit codes of --once: 0 nothing was rolled back, 1 something was, or it could not look.
    """
    bounds = Bounds(min_turns, errors, cost, latency)
    where, kept = addresses.archive(), addresses.database()
    with failing_clearly("watching canaries", where.secrets + kept.secrets):
        look = _looking(where.url)
        if once:
            rolled = asyncio.run(looked(kept.url, look, bounds, typer.echo))
            raise typer.Exit(ROLLED_BACK if rolled else GOOD)
        asyncio.run(_run(kept.url, look, bounds, every, port))


async def looked(url: str, look: Look, bounds: Bounds, say: Callable[[str], None]) -> int:
    """Judge each canary; returns how many were rolled back. Raises what reading raises."""
    rolled = 0
    found = await canaries(url)
    metrics.set_gauge("turnstile_canaries", len(found))
    for one, since in found:
        verdict = judge(await asyncio.to_thread(look, one, since), one.canary, one.pinned, bounds)
        name = f"{one.name} ({one.tenant_id})" if one.tenant_id else one.name
        about = f"{name}: version {one.canary}, {one.share} % since {began(since)}"
        if verdict.cause is None:
            say(f"{about}: {verdict.words}")
        elif await _rolled_back(url, one, verdict, say):
            rolled += 1
            metrics.inc("turnstile_canary_rollbacks_total", cause=verdict.cause)
            say(f"{about}: ROLLED BACK: {verdict.words}")
    return rolled


async def _rolled_back(
    url: str, seen: Release, verdict: Verdict, say: Callable[[str], None]
) -> bool:
    """End the canary, unless somebody changed the release meanwhile."""

    def to(old: Release | None) -> Release:
        if old != seen:
            raise Impossible(
                f"the release of {seen.name} was changed meanwhile: it is judged next time"
            )
        return release.rolled_back(seen)

    why = f"version {seen.canary} rolled back ({verdict.cause}): {verdict.words}"
    try:
        await change(url, seen.tenant_id, seen.name, to, why)
    except Impossible as error:
        say(str(error))
        return False
    return True


async def _run(url: str, look: Look, bounds: Bounds, every: float, port: int) -> None:
    """Look again and again until told to stop; a look that fails is told, and the next one comes."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stopping.set)
    say = partial(typer.echo, err=True)
    async with serve_health(HealthSettings().health_host, port, {}):
        while not stopping.is_set():
            try:
                await looked(url, look, bounds, say)
            except Exception as error:
                metrics.inc("turnstile_canary_looks_failed_total")
                say(f"could not look ({type(error).__name__}): nothing is decided")
            try:
                async with asyncio.timeout(every):
                    await stopping.wait()
            except TimeoutError:
                continue


def _looking(url: str) -> Look:
    """A client of the archive for each look: the archive may be away at one of them."""
    return lambda one, since: figures(ArchiveReader(url), one, since)
