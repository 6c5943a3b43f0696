"""Checks a file's fields against the types of the provider's SDK: the same that its calls take.

The SDK is imported when a file is checked, and not for `--help`: see `audits/provider.py`.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from typing_extensions import get_type_hints, is_typeddict

from services.operator.agents.declared import Kind, Path

# Parts of a call that are no part of an agent or environment.
HEADERS = ("betas", "workspace_id")
PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
MOST_NAMED = 24
Wrong = tuple[Path, str]


def fields(kind: Kind) -> dict[str, Any]:
    """The fields an agent or environment may have, with their types."""
    from anthropic.types.beta.agent_create_params import AgentCreateParams
    from anthropic.types.beta.environment_create_params import EnvironmentCreateParams

    params = AgentCreateParams if kind == "agent" else EnvironmentCreateParams
    hints = get_type_hints(params, include_extras=True)
    return {name: hint for name, hint in hints.items() if name not in HEADERS}


def wrong(kind: Kind, body: Mapping[str, Any]) -> Iterator[Wrong]:
    """What the SDK's types do not take: where, and what is allowed there."""
    return _struct(fields(kind), body, ())


def _check(hint: Any, value: Any, path: Path) -> Iterator[Wrong]:
    origin = get_origin(hint)
    if origin in (Required, NotRequired, Annotated):
        yield from _check(get_args(hint)[0], value, path)
    elif origin in (Union, types.UnionType):
        yield from _union(get_args(hint), value, path)
    elif origin is Literal:
        if value not in get_args(hint):
            yield path, f"{_shown(value)} is not allowed: {_named(get_args(hint))}"
    elif is_typeddict(hint):
        if isinstance(value, Mapping):
            yield from _struct(get_type_hints(hint, include_extras=True), value, path)
        else:
            yield path, f"must be fields with values, not {_shown(value)}"
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from _mapping(get_args(hint), value, path)
    elif isinstance(origin, type) and issubclass(origin, Iterable):
        yield from _list(get_args(hint)[0], value, path)
    elif hint in PLAIN and not _is(hint, value):
        yield path, f"must be {PLAIN[hint]}, not {_shown(value)}"


def _struct(hints: Mapping[str, Any], value: Mapping[str, Any], path: Path) -> Iterator[Wrong]:
    for name in value:
        if name not in hints:
            yield (*path, name), f"is no field here: {_named(sorted(hints))}"
    for name, hint in hints.items():
        if name in value:
            yield from _check(hint, value[name], (*path, name))
        elif get_origin(hint) is Required:
            yield (*path, name), "is missing"


def _mapping(hints: Sequence[Any], value: Any, path: Path) -> Iterator[Wrong]:
    if not isinstance(value, Mapping):
        yield path, f"must be fields with values, not {_shown(value)}"
        return
    for name, one in value.items():
        yield from _check(hints[1], one, (*path, name))


def _list(hint: Any, value: Any, path: Path) -> Iterator[Wrong]:
    if not isinstance(value, list):
        yield path, f"must be a list, not {_shown(value)}"
        return
    for place, one in enumerate(value):
        yield from _check(hint, one, (*path, place))


def _union(options: Sequence[Any], value: Any, path: Path) -> Iterator[Wrong]:
    if isinstance(value, Mapping):
        shapes = [one for one in options if is_typeddict(one)]
        if len(shapes) > 1 and "type" in value:
            yield from _tagged(shapes, value, path)
            return
        if shapes:
            yield from min((list(_check(one, value, path)) for one in shapes), key=len)
            return
    found = [list(_check(one, value, path)) for one in options if one is not type(None)]
    if (value is None and type(None) in options) or not all(found):
        return
    yield from min(found, key=len)


def _tagged(shapes: Sequence[Any], value: Mapping[str, Any], path: Path) -> Iterator[Wrong]:
    """Shapes that their `type` tells apart."""
    tags = {tag: one for one in shapes for tag in _tags(one)}
    shape = tags.get(value["type"]) if isinstance(value["type"], str) else None
    if shape is None:
        yield (*path, "type"), f"{_shown(value['type'])} is not allowed: {_named(sorted(tags))}"
        return
    yield from _check(shape, value, path)


def _tags(shape: Any) -> tuple[str, ...]:
    hint = get_type_hints(shape, include_extras=True).get("type")
    while get_origin(hint) in (Required, NotRequired, Annotated):
        hint = get_args(hint)[0]
    return get_args(hint) if get_origin(hint) is Literal else ()


def _is(hint: type, value: Any) -> bool:
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _named(values: Sequence[Any]) -> str:
    shown = ", ".join(map(str, values[:MOST_NAMED]))
    return f"allowed: {shown}" + (", …" if len(values) > MOST_NAMED else "")


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    text = (
        "a list"
        if isinstance(value, list)
        else "fields"
        if isinstance(value, Mapping)
        else repr(value)
    )
    return text if len(text) <= 60 else f"{text[:59]}…"
