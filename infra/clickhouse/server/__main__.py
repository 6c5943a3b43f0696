"""`python -m infra.clickhouse.server`: see `--help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.clickhouse.server.app import Limits
from infra.clickhouse.server.engine import DirectoryInUse
from infra.clickhouse.server.serve import CannotStart, serve
from infra.clickhouse.server.users import BUNDLED, UsersFileError, load_users


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Exit code 0, or 1 when it can't be started, for a reason that is printed."""
    given = _parser().parse_args(arguments)
    limits = Limits(
        max_queries=given.max_concurrent_queries,
        max_body_bytes=given.max_body_bytes,
        max_execution_time=given.max_execution_time,
    )
    try:
        serve(given.host, given.port, given.path, load_users(given.users), limits)
    except (CannotStart, DirectoryInUse, UsersFileError) as error:
        print(f"clickhouse: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m infra.clickhouse.server",
        description="The ClickHouse engine (chDB) behind ClickHouse's HTTP interface.",
        epilog="Try it: curl 'http://127.0.0.1:8123/' --data 'SELECT version()'",
    )
    add = parser.add_argument
    add("--port", type=int, default=8123, help="port to listen on; 0: any free one (8123)")
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    add("--path", type=Path, required=True, help="data directory, created if absent")
    add("--users", type=Path, default=BUNDLED, help="users file (TOML); see %(default)s")
    add(
        "--max-concurrent-queries",
        type=int,
        default=defaults.max_queries,
        help="requests at once; the next get 503 (%(default)s)",
    )
    add(
        "--max-body-bytes",
        type=int,
        default=defaults.max_body_bytes,
        help="largest request body, decompressed (%(default)s)",
    )
    add(
        "--max-execution-time",
        type=float,
        default=defaults.max_execution_time,
        help="seconds a query may run unless it sets max_execution_time itself (%(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
