"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.problems import as_json
from shared import metrics
from shared.health import Check, readiness

# Without ClickHouse turns are still accepted, and recent events still come from the log.
OPTIONAL = ("clickhouse",)


async def healthz(_: Request) -> Response:
    return as_json({"status": "ok"})


def metrics_text(
    render: Callable[[], Awaitable[bytes]],
) -> Callable[[Request], Awaitable[Response]]:
    """GET /metrics: what all processes of the gateway count."""

    async def get_metrics(_: Request) -> Response:
        return Response(await render(), media_type=metrics.CONTENT_TYPE)

    return get_metrics


def readyz(checks: Mapping[str, Check]) -> Callable[[Request], Awaitable[Response]]:
    """GET /readyz: 503 unless every dependency but ClickHouse answers; each is named."""

    async def get_readyz(_: Request) -> Response:
        ready, body = await readiness(checks, optional=OPTIONAL)
        return as_json(body, 200 if ready else 503)

    return get_readyz
