"""Settings of one simulator, all from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.simulator.messages.catalogue import WINDOW
from infra.simulator.play.delays import NONE, Delays, delays_of
from infra.simulator.play.scripts import OPTIONS, SCRIPTS

DEFAULT_MIX = {"reply": 12, "tools": 3, "threads": 1}  # all end by themselves in end_turn

# What a server of the same API that somebody runs themselves lacks; `cloud`: environments other than self_hosted.
LACKS = ("files", "mcp_oauth", "messages", "models", "cloud")


@dataclass(frozen=True, slots=True)
class Settings:
    """One simulator. Seconds are floats; `pace` scales every wait of an agent, 0 means none."""

    host: str = "127.0.0.1"
    port: int = 8090
    seed: int = 1
    pace: float = 0.0
    faults: Path | None = None
    mix: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_MIX))
    api_key: str | None = None  # None: any key that is not empty
    keepalive_seconds: float = 28.0
    status_lag_seconds: float = 0.05
    report_lag_seconds: float = 0.0
    rate_limits: bool = False
    delays: Delays = NONE
    retain: int = 10_000  # deleted sessions, and requests for messages, that are remembered
    window: int = WINDOW  # context window of every model, in tokens
    without: frozenset[str] = frozenset()  # some of LACKS


def parse(argv: Sequence[str] | None = None) -> Settings:
    """The settings of a command line. Exits with a message when it is wrong."""
    args = _parser().parse_args(argv)
    return Settings(
        host=args.host,
        port=args.port,
        seed=args.seed,
        pace=args.pace,
        faults=args.faults,
        mix=args.mix,
        api_key=args.api_key,
        keepalive_seconds=args.keepalive,
        status_lag_seconds=args.status_lag,
        report_lag_seconds=args.report_lag,
        rate_limits=args.rate_limits,
        delays=args.delays,
        retain=args.retain,
        window=args.window,
        without=args.without,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.simulator",
        description="A Managed Agents provider on this machine, deterministic for a seed.",
        epilog=script_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=int, default=8090, help="port to listen on; 0 takes a free one")
    add("--seed", type=int, default=1, help="decides ids, scripts and token counts")
    add("--pace", type=_not_negative, default=0.0, help="0 as fast as possible, 1 like real agents")
    add("--faults", type=Path, metavar="FILE", help="JSON file of fault rules, see README.md")
    add("--mix", type=_mix, default=dict(DEFAULT_MIX), metavar="NAME=WEIGHT,...",
        help="scripts for prompts without a directive (default reply=12,tools=3,threads=1)")  # fmt: skip
    add("--api-key", help="the only key accepted; by default any that is not empty")
    add("--keepalive", type=_positive, default=28.0, metavar="SECONDS", help="between keep-alives")
    add("--status-lag", type=_not_negative, default=0.05, metavar="SECONDS",
        help="how far retrieve runs behind the events (default %(default)s)")  # fmt: skip
    add("--report-lag", type=_not_negative, default=0.0, metavar="SECONDS",
        help="how far the cost report runs behind (default %(default)s)")  # fmt: skip
    add("--rate-limits", action="store_true", help="300 creates and 1200 reads a minute, else 429")
    add("--delays", type=delays_of, default=NONE, metavar="NAME=SECONDS,...",
        help="create, provision, first_token, uncached, cached; provision_for=tools or turn")  # fmt: skip
    add("--retain", type=int, default=10_000, metavar="N",
        help="deleted sessions, and requests for messages, to remember")  # fmt: skip
    add("--window", type=_tokens, default=WINDOW, metavar="TOKENS",
        help="context window of every model (default %(default)s)")  # fmt: skip
    add("--without", type=_without, default=frozenset(), metavar="NAME,...",
        help=f"what this server of the API lacks, of {', '.join(LACKS)}; self_hosted: all of them")  # fmt: skip
    return parser


def script_help() -> str:
    """The list of scripts and their options, from the scripts themselves."""
    lines = [
        "scripts, named in a prompt as [[script: NAME key=value ...]]:",
        *(
            f"  {name:18}{(script.__doc__ or '').splitlines()[0]}"
            for name, script in SCRIPTS.items()
        ),
        "options of every script: pace=X  cut=1  hold=N (before the Nth request from the end wait for",
        "  POST /_sim/sessions/ID/release)  patience=SECONDS (60; then it goes on by itself)",
        "  late=1 (an event after the idle)  times=N (a plain reply from the N+1st time on)",
        "  cache=1 (tokens by the agent's system prompt and the minimum of its model's cache)",
        *(f"options of {name}: {'  '.join(sorted(keys))}" for name, keys in OPTIONS.items()),
    ]
    return "\n".join(lines)


def _without(text: str) -> frozenset[str]:
    names = frozenset(LACKS if text == "self_hosted" else text.split(","))
    if unknown := names - set(LACKS):
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {', '.join(LACKS)}")
    return names


def _mix(text: str) -> dict[str, int]:
    mix: dict[str, int] = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        if name not in SCRIPTS or not weight.isdigit() or int(weight) == 0:
            raise argparse.ArgumentTypeError(f"{part!r} is not SCRIPT=WEIGHT with a weight above 0")
        mix[name] = int(weight)
    return mix


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1000")
    return value


def _tokens(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _positive(text: str) -> float:
    value = _not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value
