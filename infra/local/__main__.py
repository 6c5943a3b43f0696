"""The command line of `python -m infra.local`."""

import argparse
import asyncio
import signal
import sys
import time

from infra.local.addresses import addresses_of
from infra.local.catalogue import fetch, quicken
from infra.local.errors import StackError
from infra.local.hold import hold, release
from infra.local.keys import Keys, load_keys
from infra.local.orphans import clean, down
from infra.local.settings import StackSettings, read_settings
from infra.local.status import read_status
from infra.local.supervisor import StopRequested, Supervisor, supervised


def say(text: str) -> None:
    """One line of progress, on standard error: standard output is for results."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def up(settings: StackSettings, only: set[str] | None) -> int:
    """Run the stack in the foreground until Ctrl-C or SIGTERM."""
    began = time.monotonic()
    async with supervised(settings, say) as supervisor:
        _stop_on_signals(supervisor)
        keys = load_keys(settings)
        try:
            await supervisor.start(keys, only)
        except StopRequested:
            say("stopped before it was ready")
            return 1
        say(f"up after {time.monotonic() - began:.1f} s; logs in {settings.folders.log}")
        sys.stdout.write(ready_line(settings, keys) + "\n")
        sys.stdout.flush()
        await supervisor.wait()
        say("stopping")
    say("stopped")
    return 0


def ready_line(settings: StackSettings, keys: Keys) -> str:
    """The one line that scripts wait for."""
    found = addresses_of(settings)
    return (
        f"ready gateway={found.gateway} clickhouse={found.clickhouse} "
        f"kafka={found.kafka} key={keys.shown}"
    )


def _stop_on_signals(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.request_stop)


def _print_status(settings: StackSettings) -> int:
    status = read_status(settings.folders)
    for name, facts in status.items():
        pid = facts["pid"] or "-"
        sys.stdout.write(
            f"{name:16} {facts['state']:9} pid {pid:<8} {facts['restarts']} restarts\n"
        )
    if not status:
        sys.stdout.write(f"no stack in {settings.folders.root}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local",
        description="The whole stack on one machine. Ports and addresses come from TURNSTILE_* "
        "variables, see docs/operations.md.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    begin = commands.add_parser("up", help="run the stack in the foreground until Ctrl-C")
    begin.add_argument("--only", metavar="PART,PART", help="start these parts and no others")
    commands.add_parser(
        "fetch",
        help="get now what the first start would get (Kafka's jars), and make starts faster",
    )
    commands.add_parser("down", help="stop what is left of the stack")
    commands.add_parser("clean", help="empty the state folder (stack must be down)")
    commands.add_parser("status", help="say how each part is doing")
    for name, text in (("stop", "stop one part and keep it stopped"), ("start", "start it again")):
        commands.add_parser(name, help=text).add_argument("part")
    commands.add_parser("demo", help="play the demo's turns through a stack of its own")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        return _run(asked)
    except StackError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(asked: argparse.Namespace) -> int:
    if asked.command == "demo":
        from infra.demo.play import demo  # pulls in the clients of every part

        return demo(say)
    settings = read_settings()
    if asked.command == "up":
        only = {name.strip() for name in asked.only.split(",")} if asked.only else None
        return asyncio.run(up(settings, only))
    if asked.command == "status":
        return _print_status(settings)
    if asked.command == "fetch":
        quicken(settings, fetch(settings, say), say)
    elif asked.command == "down":
        down(settings.folders, say)
    elif asked.command == "clean":
        clean(settings.folders)
    else:
        {"stop": hold, "start": release}[asked.command](settings.folders, asked.part)
    return 0


if __name__ == "__main__":
    sys.exit(main())
