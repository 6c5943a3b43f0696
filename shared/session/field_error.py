"""What a validation error says to whoever wrote the value: the field, and how to put it right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec

from shared.session.inputs import Mode, OnBusy, Verdict

_PLACE = re.compile(r" - at (?:`key` in )?`\$(.*)`$")
_NAMED = re.compile(r"(unknown|required) field `([^`]*)`$")
_INDEX = re.compile(r"\[[^]]*\]")
_ID = re.compile(r"matching regex '\^\[A-Za-z0-9\._:-\]")
_LENGTH = re.compile(r"Expected `(\w+)` of length (<=|>=) (\d+)")
_BOUND = re.compile(r"Expected `(?:float|int)` (<=|>=|<|>) (\S+)")
_KIND = re.compile(r"Expected `([^`]*)`(?:, got `[^`]*`)?$")
_CHOICE = re.compile(r"Invalid (?:enum )?value '(?:.|\n)*'")
_BOUNDS = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
_UNITS = {"str": "characters", "array": "items", "object": "entries"}
_KINDS: Mapping[str, str] = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
# What may be chosen, by the end of the field.
_CHOICES: Mapping[str, str] = {
    "mode": " or ".join(get_args(Mode)),
    "on_busy": ", ".join(get_args(OnBusy)),
    "result": " or ".join(get_args(Verdict)),
    "media_type": "image/jpeg, image/png, image/gif or image/webp of an image; application/pdf (base64) or "
    "text/plain (text) of a document",
    "type": "text, image or document (in a tool's result also search_result)",
    "rubric.type": "text or file",
    "source.type": "base64, url or file (of a document also text)",
    "resources.type": "file, github_repository or memory_store",
    "checkout.type": "branch or commit",
    "access": "read_write or read_only",
}


def field_and_fix(error: msgspec.ValidationError) -> tuple[str, str]:
    """The field as a path (`content[0].source`), "" for the value as a whole, and what is wrong with it and how to
    put it right. Says nothing of what the value was but its kind."""
    text = str(error)
    place = _PLACE.search(text)
    field = place[1].lstrip(".") if place else ""
    words = _PLACE.sub("", text)
    named = _NAMED.search(words)
    if named:
        field = f"{field}.{named[2]}" if field else named[2]
        if named[1] == "required":
            return field, "is missing: it is required"
        return field, _UNWANTED.get(named[2], _UNKNOWN)
    fix = _fix(words, field)
    return field, f"a key of it {fix}" if "`key` in" in text else fix


NO_TEXT = (
    "holds half of a character (a lone surrogate, or bytes that are not UTF-8): send the whole one"
)
_HALF = re.compile("[\ud800-\udfff]")


def field_of_half_character(body: bytes) -> str | None:
    """The field of a JSON body with a text that is none: a lone surrogate, or bytes that are not UTF-8. None when
    that is not what is wrong with it."""
    try:
        value = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return next(_halves(value, ""), None)


def _halves(value: Any, field: str) -> Iterator[str]:
    if isinstance(value, str):
        if _HALF.search(value):
            yield field
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _halves(item, f"{field}[{place}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            if _HALF.search(name):
                yield field
            yield from _halves(item, f"{field}.{name}" if field else name)


_UNKNOWN = "is unknown: leave it out, or mend its spelling"
# Fields that the provider has and we do not take.
_UNWANTED: Mapping[str, str] = {
    "authorization_token": "is a secret, and none is taken here: name a public repository, or have the agent clone "
    "a private one with a credential of a vault (POST /v1/vaults/{vault_id}/credentials)",
}


def _fix(words: str, field: str) -> str:
    if _ID.search(words):
        return "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -"
    if found := _LENGTH.match(words):
        if (found[2], found[3]) == (">=", "1"):
            return "must not be empty"
        unit = _UNITS.get(found[1], "elements")
        return f"must have {_BOUNDS[found[2]]} {found[3]} {unit}"
    if found := _BOUND.match(words):
        return f"must be {_BOUNDS[found[1]]} {found[2].removesuffix('.0')}"
    if _CHOICE.match(words):
        plain = _INDEX.sub("", f".{field}")
        ends = [end for end in _CHOICES if plain.endswith(f".{end}")]
        return (
            f"must be {_CHOICES[max(ends, key=len)]}" if ends else "is none of the values there are"
        )
    if found := _KIND.match(words):
        return f"must be {_kinds(found[1])}"
    return words


def _kinds(names: str) -> str:
    return " or ".join(_KINDS.get(name, name) for name in names.split(" | "))
