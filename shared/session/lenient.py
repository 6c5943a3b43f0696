"""Reading JSON as far as it fits: what is of another shape than expected has its default, all else counts."""

from __future__ import annotations

import re
from typing import Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import UNSET, Raw, Struct

S = TypeVar("S", bound=Struct)
_object = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])
# JSON may hold half a surrogate pair, which a cut emoji leaves behind; as text there is no such thing.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def read(decoder: msgspec.json.Decoder[S], raw: bytes | Raw) -> S:
    """The struct of `decoder`, all of whose fields have defaults, out of a JSON object.

    Raises msgspec.DecodeError when `raw` is no JSON, msgspec.ValidationError when it is no object.
    """
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError:
        text = _SURROGATE.sub(rb"\\u003f", bytes(raw))
        return _softened(Raw(text), decoder.type)


def _softened(raw: Raw, shape: type[S]) -> S:
    found = _object.decode(raw)
    known = {
        field.name: value
        for field in msgspec.structs.fields(shape)
        if (part := found.get(field.encode_name)) is not None
        and (value := _fitting(part, field.type)) is not UNSET
    }
    return shape(**known)


def _fitting(raw: Raw, shape: Any) -> Any:
    """The value as `shape`; UNSET when nothing of it fits."""
    try:
        return Raw(bytes(raw)) if shape is Raw else msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError:
        return _partly(raw, shape)


def _partly(raw: Raw, shape: Any) -> Any:
    """What fits of an object's fields and of a list's items."""
    try:
        if isinstance(shape, type) and issubclass(shape, Struct):
            return _softened(raw, shape)
        if get_origin(shape) is list:
            items = (_fitting(item, get_args(shape)[0]) for item in _list.decode(raw))
            return [item for item in items if item is not UNSET]
    except msgspec.ValidationError:
        pass
    return UNSET
