"""The gateway of the barest pipeline: the route of `bare_accept`, that of `bare_live`, and one that says that a
session is open.

A program: order `{port, bootstrap, inputs, events}`; writes lines when it serves, ends on SIGTERM.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench import bare_accept, bare_live
from tests.bench.bare_server import serve
from tests.bench.child import order


async def _opened(_: Request) -> Response:
    return Response(b"{}", 201, media_type="application/json")


def application(bootstrap: str, inputs: str, events: str) -> Starlette:
    """POST of sessions and turns, GET of a session's events."""
    telling = bare_live.application(bootstrap, events)
    accepting = bare_accept.application(bootstrap, inputs)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for one in (telling, accepting):
                await stack.enter_async_context(one.router.lifespan_context(one))
            yield

    opening = Route("/v1/sessions", _opened, methods=["POST"])
    return Starlette(routes=[opening, *accepting.routes, *telling.routes], lifespan=lifespan)


def main() -> None:
    """Serve until SIGTERM."""
    told = order()
    serve(application(told["bootstrap"], told["inputs"], told["events"]), told["port"])


if __name__ == "__main__":
    main()
