"""`python -m tests.chaos`: a stack of its own, broken by a seed, and a judgement. `make chaos` runs it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from infra.local.errors import StackError
from infra.local.keys import load_keys
from infra.local.settings import own_settings
from infra.local.supervisor import StopRequested, supervised
from tests.chaos.failed import ChaosFailed
from tests.chaos.options import Options
from tests.chaos.report import Report, report
from tests.chaos.run import Run
from tests.chaos.schedule import PARTS, schedule
from tests.chaos.speakers import LIFETIMES, speakers

_WORKERS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every promise was kept, 1 when one was not, 2 when the run could not be carried out."""
    asked = _parser().parse_args(arguments)
    options = Options(
        seed=asked.seed,
        duration=asked.duration,
        sessions=asked.sessions,
        workers=_WORKERS,
        say=_say,
        parts=asked.parts,
        troubled=not asked.provider_in_order,
    )
    root = Path(tempfile.mkdtemp(prefix="turnstile-chaos-"))
    try:
        told = asyncio.run(_run(root, options))
    except (ChaosFailed, StackError, OSError, ExceptionGroup) as error:
        _say(f"the run could not be carried out: {_reason(error)}; logs kept in {_keep(root)}")
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError, StopRequested):
        _say("stopped")
        return 130
    else:
        if asked.json is not None:
            asked.json.write_text(json.dumps(told.as_json(), indent=1))
        sys.stdout.write(told.text() + "\n")
        if not told.passed:
            _say(
                f"logs, and all that is known of the sessions concerned, kept in {_keep(root, told)}"
            )
        return 0 if told.passed else 1
    finally:
        shutil.rmtree(root, ignore_errors=True)


async def _run(root: Path, options: Options) -> Report:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    settings = own_settings(root)
    told = {**settings.environment, **LIFETIMES}
    settings = replace(settings, workers=options.workers, environment=told)
    plan = schedule(
        options.seed, options.duration, options.workers, options.parts, options.troubled
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    sessions = len(speakers(options.sessions))
    _say(
        f"seed {options.seed}: {len(plan.strikes)} strikes and {len(plan.troubles)} troubles of the provider in "
        f"{options.duration:.0f} s, {sessions} sessions; {os.cpu_count()} cores, load before {load}"
    )
    async with supervised(settings, _say) as supervisor:
        keys = load_keys(settings)
        await supervisor.start(keys)
        outcome = await Run(settings, keys.first, options).play(plan)
        _say("judged; stopping the stack")
    return report(options.seed, options.duration, outcome)


def _keep(root: Path, told: Report | None = None) -> Path:
    kept = root.with_name(f"{root.name}-logs")
    shutil.copytree(root / "log", kept, dirs_exist_ok=True)
    for found in told.concerned() if told else ():
        text = json.dumps(asdict(found), indent=1, default=_readable)
        (kept / f"{found.session_id}.json").write_text(text)
    return kept


def _readable(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else sorted(map(str, value))  # type: ignore[call-overload]


def _reason(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_reason(one) for one in error.exceptions)
    return str(error) or repr(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Kills, pauses and restarts every part of a stack of its own under load and provider faults, "
        "then compares what was accepted, what the provider saw and what is archived. What the figures mean: "
        "docs/guarantees.md.",
    )
    add = parser.add_argument
    add(
        "--seed",
        type=int,
        default=1,
        help="the same seed strikes the same parts at the same times (default 1)",
    )
    add("--duration", type=_seconds, default=180.0, help="seconds under load (default 180)")
    add(
        "--sessions",
        type=int,
        choices=range(1, 201),
        metavar="N",
        default=8,
        help="that never pause (default 8), beside seven that rest, have jobs or come to caps",
    )
    add(
        "--parts",
        type=_parts,
        default=PARTS,
        metavar="NAME,...",
        help=f"strike these alone, of {', '.join(PARTS)}",
    )
    add("--provider-in-order", action="store_true", help="the provider does not misbehave")
    add("--json", type=Path, metavar="FILE", help="write figures, recoveries and findings there")
    return parser


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if unknown := sorted({*parts} - {*PARTS}):
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; of {', '.join(PARTS)}")
    return parts


def _seconds(text: str) -> float:
    value = float(text)
    if not 10 <= value <= 86_400:
        raise argparse.ArgumentTypeError("from 10 to 86400")
    return value


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
