"""POST /v1/messages/count_tokens: the tokens of a prompt, here by its length. No message is played."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.api.answer import answer
from infra.simulator.api.decode import body_of
from infra.simulator.content import Ident, Strict, TextBlock

CHARACTERS_A_TOKEN = 4


class Message(Strict):
    role: Literal["user", "assistant"]
    content: str | list[TextBlock]


class CountTokens(Strict):
    model: Ident
    messages: Annotated[list[Message], Meta(min_length=1)]
    system: str | list[TextBlock] = ""
    tools: list[dict[str, Any]] = msgspec.field(default_factory=list)


COUNT = msgspec.json.Decoder(CountTokens)


class Messages:
    """What of the Messages API is there."""

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        return [Route("/v1/messages/count_tokens", self.count, methods=["POST"])]

    async def count(self, request: Request) -> Response:
        """Raises ApiError 400 for a body that is not the SDK's."""
        asked = await body_of(request, COUNT)
        texts = [_text(asked.system), *(_text(message.content) for message in asked.messages)]
        texts += [msgspec.json.encode(tool).decode() for tool in asked.tools]
        return answer({"input_tokens": tokens_of(sum(map(len, texts)))})


def tokens_of(characters: int) -> int:
    """The tokens of so long a text: this provider's only tokenizer."""
    return -(-characters // CHARACTERS_A_TOKEN)


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)
