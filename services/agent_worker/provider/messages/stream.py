"""One answer of the model's, off the wire: its blocks as they come, whole at the end, its text shown meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from anthropic import AsyncAnthropic

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider.stream import records

Json = dict[str, Any]
# Seconds without a byte: the provider pings in between.
SILENT_SECONDS = 120.0


class Answering:
    """An answer in the making. `began` is awaited with the usage once the model has begun; `place` gives the id
    that the message will have, by the blocks up to its first text; `show` takes previews."""

    def __init__(
        self,
        began: Callable[[Json], Awaitable[None]],
        place: Callable[[list[Json]], str],
        show: Callable[[bytes], None],
    ) -> None:
        self._began = began
        self._place = place
        self._show = show
        self._message: Json = {"content": [], "stop_reason": None}
        self._inputs: dict[int, str] = {}
        self._shown = ""
        self._texts = -1

    async def read(self, client: AsyncAnthropic, body: Json) -> Json:
        """The whole message. Raises what the SDK and the wire raise, and ProviderFailure for one without an end."""
        asking = client.messages.with_streaming_response.create(
            **body, stream=True, timeout=SILENT_SECONDS
        )
        async with asking as response:
            async for data in records(response.iter_bytes()):
                event = msgspec.json.decode(data)
                if event["type"] == "message_stop":
                    return self._message
                await self._take(event)
        raise ProviderFailure("stream_cut", "the answer ended before its end")

    async def _take(self, event: Json) -> None:
        match event["type"]:
            case "message_start":
                self._message["usage"] = event["message"]["usage"]
                await self._began(self._message["usage"])
            case "content_block_start":
                self._start(event["content_block"])
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "content_block_stop":
                self._stop(event["index"])
            case "message_delta":
                self._message.update(event["delta"])
                told = {k: v for k, v in event["usage"].items() if v is not None}
                self._message["usage"] = {**self._message.get("usage", {}), **told}
            case _:
                pass

    def _start(self, block: Json) -> None:
        self._message["content"].append(block)
        if block["type"] == "text":
            self._texts += 1
            if not self._shown:
                self._shown = self._place(self._message["content"])
                start = {"type": "agent.message", "id": self._shown}
                self._show(msgspec.json.encode({"type": "event_start", "event": start}))

    def _grow(self, index: int, delta: Json) -> None:
        block = self._message["content"][index]
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
                self._preview(delta["text"])
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
            case _:
                pass

    def _stop(self, index: int) -> None:
        block, given = self._message["content"][index], self._inputs.pop(index, "")
        if given:
            block["input"] = msgspec.json.decode(given)
        if block.get("citations") is None:
            block.pop("citations", None)

    def _preview(self, text: str) -> None:
        content = {"type": "text", "text": text}
        delta = {"type": "content_delta", "index": self._texts, "content": content}
        said = {"type": "event_delta", "event_id": self._shown, "delta": delta}
        self._show(msgspec.json.encode(said))
