"""A conversation as its entries tell it: what the model is asked next, and what is open. Pure.

Each entry has an event as sessions of the provider have them, and beside it what of it goes to the model: a
user's content, a tool's result, a whole answer with its signed thinking. Nothing else is kept, so whoever reads
the entries goes on where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from services.agent_worker.ports import Entry
from services.agent_worker.provider.messages.agents import Agent
from shared.session import provider

Json = dict[str, Any]
# `rest`: nothing runs; `ask`: the model is to be asked; `wait`: for results of calls.
Phase = Literal["rest", "ask", "wait"]
INTERRUPTED = "The call was stopped by an interrupt before it was done; it can be tried again."
CALLED = ("agent.custom_tool_use",)
RESULTS = ("user.custom_tool_result", "agent.tool_result")
LEFT_OUT = "The beginning of this conversation is left out here. What it was about:\n\n"
_agent = msgspec.json.Decoder(Agent)


class Dialog(Struct):
    """`calls` are ids of the model's own by those of our events, of calls without a result. `begun` is the usage
    so far of a request whose end is not told, `begun_id` the event that began it. `tries` are failures in a row,
    `used` the tokens of the newest prompt and its answer. `before_prompt`: the messages without the
    newest prompt; `answered`: the model has said something since."""

    id: str
    agent: Agent
    position: int = 0
    phase: Phase = "rest"
    messages: list[Json] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)
    begun: Json | None = None
    begun_id: str = ""
    tries: int = 0
    used: int = 0
    before_prompt: list[Json] = field(default_factory=list)
    answered: bool = False

    def event_id(self, ahead: int = 1) -> str:
        """The id of the event that comes so many entries after the newest."""
        return f"{self.id}_{self.position + ahead:08d}"


def opened(id: str, entries: Iterable[Entry]) -> Dialog:
    """The conversation with all its entries, of which the first holds its agent."""
    first, *rest = entries
    dialog = Dialog(id, _agent.decode(first.said), position=first.position)
    for entry in rest:
        grow(dialog, entry)
    return dialog


def grow(dialog: Dialog, entry: Entry) -> None:
    """Take up the entry that follows the newest."""
    dialog.position = entry.position
    dialog.sources.add(entry.source)
    head = provider.head(entry.event)
    said: Any = msgspec.json.decode(entry.said) if entry.said else None
    match head.type:
        case "user.message":
            _prompted(dialog, said)
        case kind if kind in CALLED:
            dialog.calls[head.id] = said
        case kind if kind in RESULTS:
            _answered(dialog, provider.answered(entry.event) or "", said)
        case "span.model_request_start":
            dialog.begun, dialog.begun_id = said or {}, head.id
        case "span.model_request_end":
            _ended(dialog, said, entry.event)
        case "session.error":
            _failed(dialog, provider.error(entry.event).retry_status)
        case "session.status_idle":
            _rested(dialog, provider.stop_reason(entry.event).type)
        case "agent.thread_context_compacted":
            dialog.messages, dialog.used = said, 0
            dialog.before_prompt = said[:-1]
        case _:
            pass


def _prompted(dialog: Dialog, content: list[Json]) -> None:
    dialog.before_prompt = list(dialog.messages)
    _say(dialog, "user", content)
    dialog.phase, dialog.tries, dialog.answered = "ask", 0, False


def _answered(dialog: Dialog, call: str, result: Json) -> None:
    if dialog.calls.pop(call, None) is None:
        return
    _say(dialog, "user", [result])
    if not dialog.calls:
        dialog.phase, dialog.tries = "ask", 0


def _ended(dialog: Dialog, content: list[Json] | None, event: bytes) -> None:
    dialog.begun = None
    if content is None:
        return
    usage = provider.model_usage(event)
    dialog.used = sum(getattr(usage, name) for name in usage.__struct_fields__)
    if content:
        _say(dialog, "assistant", content)
        dialog.answered = True
    dialog.tries = 0
    dialog.phase = "wait" if dialog.calls else "ask"


def _failed(dialog: Dialog, outcome: str) -> None:
    dialog.tries += 1
    if outcome == "final":
        dialog.phase = "rest"
        _take_back(dialog)


def _rested(dialog: Dialog, reason: str) -> None:
    dialog.phase = "wait" if reason == "requires_action" else "rest"
    if reason == "retries_exhausted":
        _take_back(dialog)


def _take_back(dialog: Dialog) -> None:
    """What nobody answered is said again by the next attempt, or was refused: it does not stay."""
    if not dialog.answered:
        dialog.messages = list(dialog.before_prompt)


def _say(dialog: Dialog, role: str, content: list[Json]) -> None:
    """Messages of one role in a row are one."""
    if dialog.messages and dialog.messages[-1]["role"] == role:
        last = dialog.messages[-1]
        dialog.messages[-1] = {"role": role, "content": [*last["content"], *content]}
    else:
        dialog.messages.append({"role": role, "content": content})


# ---- what is asked ------------------------------------------------------------------------------------------


def request(dialog: Dialog) -> Json:
    """The body of the next request. What stands before the conversation is one prefix of the prompt cache, all
    that was said so far another."""
    agent, mark = dialog.agent, {"type": "ephemeral"}
    body: Json = {
        "model": agent.model,
        "max_tokens": agent.max_tokens,
        "messages": dialog.messages,
        "cache_control": mark,
    }
    if agent.system:
        body["system"] = [{"type": "text", "text": agent.system, "cache_control": mark}]
    if agent.tools:
        body["tools"] = list(agent.tools)
    if agent.thinking:
        body["thinking"] = agent.thinking
    if agent.effort:
        body["output_config"] = {"effort": agent.effort}
    return body


def halves(messages: list[Json]) -> tuple[list[Json], list[Json]]:
    """The older part of a conversation, to be told in few words, and the newer one, which begins with a prompt.
    The first is empty where there is nothing that could fall out."""
    starts = [at for at, message in enumerate(messages) if at and _begins(message)]
    if not starts:
        return [], messages
    wanted = len(messages) // 2
    at = next((start for start in starts if start >= wanted), starts[-1])
    return messages[:at], messages[at:]


def _begins(message: Json) -> bool:
    kinds = {block["type"] for block in message["content"]}
    return message["role"] == "user" and "tool_result" not in kinds


def shortened(newer: list[Json], summary: str) -> list[Json]:
    """The newer part behind a summary of the older one, without thinking, which held behind what stood there."""
    first, *rest = newer
    told = {"type": "text", "text": LEFT_OUT + summary}
    return [{"role": "user", "content": [told, *first["content"]]}, *map(_unthinking, rest)]


def _unthinking(message: Json) -> Json:
    kept = [b for b in message["content"] if b["type"] not in ("thinking", "redacted_thinking")]
    return {**message, "content": kept or [{"type": "text", "text": "(no answer)"}]}
