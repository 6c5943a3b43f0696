"""`python -m infra.simulator`: serves until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from infra.simulator.errors import ApiError
from infra.simulator.server import bound, new_server
from infra.simulator.settings import parse


def main() -> int:
    """Serve until a signal. Returns the exit code: 0 after a stop by signal, 2 when it cannot start."""
    settings = parse()
    try:
        server, _ = new_server(settings)
        sock = bound(settings)
    except ApiError as error:
        print(f"simulator: --faults {settings.faults}: {error.message}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"simulator: {settings.host}:{settings.port}: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):  # the server raises it again when it is done
        signal.signal(number, _leave)
    host, port = sock.getsockname()[:2]
    print(
        f"simulator on http://{host}:{port} seed={settings.seed} pace={settings.pace}", flush=True
    )
    server.run(sockets=[sock])
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
