"""How the bare programs serve: one process of uvicorn, as fast as it goes."""

from __future__ import annotations

from typing import Any

import uvicorn

STOP_S = 1


def serve(application: Any, port: int) -> None:
    """Serve the ASGI application until SIGTERM; connections that are open then have a second."""
    uvicorn.run(
        application,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=STOP_S,
    )
