"""POST /v1/messages, in a stream or in one piece, and POST /v1/messages/count_tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from infra.simulator.api.answer import answer
from infra.simulator.api.decode import decoded, read_body
from infra.simulator.errors import ApiError, bad
from infra.simulator.messages.catalogue import serving
from infra.simulator.messages.check import check_limits, check_prompt
from infra.simulator.messages.log import MessageLog, Seen
from infra.simulator.messages.model import Answer, Model
from infra.simulator.messages.request import PROMPT, REQUEST
from infra.simulator.messages.wire import events_of, record
from infra.simulator.play.stage import DELTA_SECONDS
from infra.simulator.play.usage import Tokens
from infra.simulator.world import World

RAW = msgspec.json.Decoder()


class Messages:
    """The endpoints over one world; every request that comes here is in `log`."""

    def __init__(self, world: World, log: MessageLog) -> None:
        self._world = world
        self._log = log
        self._model = Model(world.casting, world.ids.new, world.now, world.settings.pace)
        self._releases = 0
        self._nudge = asyncio.Event()

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        return [
            Route("/v1/messages", self.create, methods=["POST"]),
            Route("/v1/messages/count_tokens", self.count, methods=["POST"]),
            Route("/_sim/messages", self.seen, methods=["GET"]),
            Route("/_sim/messages/release", self.release, methods=["POST"]),
        ]

    async def count(self, request: Request) -> Response:
        """Raises ApiError 400 for a prompt that would be refused, 404 for a model that is not there."""
        seen = await self._begin(request)
        with _noting(seen):
            prompt = decoded(seen.body, PROMPT)
            checked = check_prompt(prompt, serving(prompt.model, self._world.settings.window))
        seen.status, seen.finished = 200, True
        return answer({"input_tokens": checked.tokens})

    async def create(self, request: Request) -> Response:
        """Raises ApiError: 400, 404, and what the script of the prompt plays."""
        seen = await self._begin(request)
        with _noting(seen):
            asked = decoded(seen.body, REQUEST)
            model = serving(asked.model, self._world.settings.window)
            checked = check_prompt(asked, model)
            check_limits(asked, checked, model)
            answered = self._model.answer(asked, checked, model)
        seen.status, seen.message = 200, answered.message
        await self._wait(answered)
        if asked.stream:
            headers = {"cache-control": "no-cache"}
            records = self._records(seen, answered)
            return StreamingResponse(records, media_type="text/event-stream", headers=headers)
        seen.finished = True
        return answer(answered.message)

    async def seen(self, request: Request) -> Response:
        """What came, oldest first; `?after=N` leaves out those up to number N."""
        after = request.query_params.get("after", "0")
        if not after.isdigit():
            raise bad("after: must be the number of a request")
        return answer({"data": self._log.after(int(after))})

    async def release(self, request: Request) -> Response:
        """Lets one held answer go on."""
        self._releases += 1
        self._nudge.set()
        return answer({"released": self._releases})

    async def _begin(self, request: Request) -> Seen:
        if "json" not in request.headers.get("content-type", ""):
            raise bad("content-type: must be application/json")
        body = await read_body(request)
        decoded(body, RAW)  # what is no JSON is not kept
        at, ident = self._world.written_now(), request.scope["request_id"]
        return self._log.begin(at, ident, request.url.path, body)

    async def _wait(self, answered: Answer) -> None:
        usage = answered.message["usage"]
        tokens = Tokens(
            fresh=usage["input_tokens"],
            cache_read=usage["cache_read_input_tokens"],
            cache_write=usage["cache_creation_input_tokens"],
        )
        await asyncio.sleep(self._world.delays.until_token(tokens))
        if answered.hold:
            await self._held(answered.patience)

    async def _held(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                while not self._releases:
                    self._nudge.clear()
                    await self._nudge.wait()
        except TimeoutError:
            return
        self._releases -= 1

    async def _records(self, seen: Seen, answered: Answer) -> AsyncIterator[bytes]:
        for event in events_of(answered.message):
            if event["type"] == "content_block_delta" and answered.pace:
                await asyncio.sleep(DELTA_SECONDS * answered.pace)
            if event["type"] == "message_stop":
                seen.finished = True
            yield record(event)


@contextmanager
def _noting(seen: Seen) -> Iterator[None]:
    """Writes a refusal into what is kept of the request."""
    try:
        yield
    except ApiError as error:
        seen.status, seen.error = error.status, error.message
        raise
