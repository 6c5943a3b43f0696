"""The models there are, and what each of them takes.

What is known of the provider's models as of 2026-11: its pages on models, thinking and preserved thinking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.simulator.errors import ApiError, missing

JSON = dict[str, Any]
WINDOW = 200_000  # tokens of prompt and answer
MAX_TOKENS = 64_000


@dataclass(frozen=True, slots=True)
class Traits:
    """How a generation of models thinks.

    `types`: the `thinking.type` values it takes; `thinks`: it does where a request says nothing. `shows`: the text
    of thinking comes without being asked for. `bound`: a thinking block holds only behind the very prompt that it
    was made for. `forced`: a tool can be forced. `hushed`: text between tool calls comes as thinking. `prefill`: an
    answer may be begun by the client.
    """

    types: tuple[str, ...]
    thinks: bool = True
    shows: bool = False
    bound: bool = False
    forced: bool = True
    hushed: bool = False
    prefill: bool = False


ALWAYS = Traits(("adaptive",), bound=True, forced=False, hushed=True)
BETWEEN = Traits(("adaptive", "between_tools"), bound=True, hushed=True)
EITHER_BOUND = Traits(("adaptive", "disabled"), bound=True, hushed=True)
EITHER = Traits(("adaptive", "disabled"))
BUDGETED = Traits(("enabled", "disabled"), thinks=False, shows=True, prefill=True)

_TRAITS = {
    "claude-fable-5-2": ALWAYS,
    "claude-opus-5-5": ALWAYS,
    "claude-sonnet-5-5": BETWEEN,
    "claude-haiku-5-5": EITHER_BOUND,
    "claude-sonnet-5": EITHER,
    "claude-opus-5": EITHER,
}
# Models whose thinking other models read beside their own. All read that of Haiku 5.5.
_READ_BY_ALL = ("claude-haiku-5-5",)
_READS = {"claude-fable-5-2": ("claude-opus-5", "claude-opus-5-5")}


def traits_of(model: str) -> Traits:
    """Those of a model that `find` has found."""
    return _TRAITS.get(model, BUDGETED)


def reads(model: str, thought: str) -> bool:
    """Whether `model` can use the thinking of the model `thought`."""
    return thought in (model, *_READ_BY_ALL, *_READS.get(model, ()))


def find(model: str, window: int) -> JSON:
    """A model as the API shows it, with a context window of so many tokens. Raises ApiError 404."""
    for known in MODELS:
        if known["id"] == model:
            return {**known, "max_input_tokens": window}
    raise missing("model", model)


def serving(model: str, window: int) -> JSON:
    """A model that answers messages. Raises ApiError 404 in the words of `/v1/messages`, for a retired one too."""
    for known in MODELS:
        if known["id"] == model and known["lifecycle"] != "retired":
            return {**known, "max_input_tokens": window}
    raise ApiError(404, f"model: {model}")


def _model(
    id: str, name: str, released: str, ends: tuple[str, str, str | None] | None = None
) -> JSON:
    """`ends`: lifecycle, deprecated since, retires at; days, as all dates here."""
    lifecycle, deprecated, retires = ends or ("active", None, None)
    return {
        "id": id,
        "type": "model",
        "display_name": name,
        "created_at": f"{released}T00:00:00Z",
        "lifecycle": lifecycle,
        "deprecated_at": deprecated and f"{deprecated}T00:00:00Z",
        "retires_at": retires and f"{retires}T00:00:00Z",
        "line": id.split("-")[1],
        "max_input_tokens": WINDOW,
        "max_tokens": MAX_TOKENS,
        "capabilities": None,
    }


MODELS = (
    _model("claude-fable-5-2", "Claude Fable 5.2", "2026-11-09"),
    _model("claude-haiku-5-5", "Claude Haiku 5.5", "2026-10-07"),
    _model("claude-sonnet-5-5", "Claude Sonnet 5.5", "2026-09-28"),
    _model("claude-opus-5-5", "Claude Opus 5.5", "2026-09-28"),
    _model("claude-sonnet-5", "Claude Sonnet 5", "2026-06-30"),
    _model("claude-opus-5", "Claude Opus 5", "2026-07-24"),
    _model("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "2025-10-01"),
    _model(
        "claude-opus-4-5-20251101",
        "Claude Opus 4.5",
        "2025-11-01",
        ("deprecated", "2026-07-24", "2027-01-22"),
    ),
    _model(
        "claude-sonnet-4-5-20250929",
        "Claude Sonnet 4.5",
        "2025-09-29",
        ("retired", "2026-06-30", "2026-11-30"),
    ),
)
