"""The format Native as clients of a protocol revision read it (`client_protocol_version`).

The engine writes it as for revision 0, which HTTP clients get that name none. From revision 1 on
each block begins with facts about it, and from 54454 on each column says before its data whether
it is stored in a way of its own; none is here. To put that byte in its place, the end of each
column must be known, so its data is passed over by type.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import lru_cache

from infra.clickhouse.server.errors import NOT_IMPLEMENTED, refuse

_WITH_CUSTOM_FLAG = 54454
# Not an overflow block, and of no bucket: what any result is that has been put together.
_BLOCK_FACTS = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_COUNT = struct.Struct("<Q")
_WIDTHS = {
    1: "Int8 UInt8 Bool Enum8 Nothing",
    2: "Int16 UInt16 Enum16 Date BFloat16",
    4: "Int32 UInt32 Float32 Date32 DateTime IPv4 Time Decimal32",
    8: "Int64 UInt64 Float64 DateTime64 Time64 Decimal64",
    16: "Int128 UInt128 UUID IPv6 Decimal128",
    32: "Int256 UInt256 Decimal256",
}
_WIDTH = {name: width for width, names in _WIDTHS.items() for name in names.split()}
_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "Polygon": "Array(Ring)",
    "MultiLineString": "Array(LineString)",
    "MultiPolygon": "Array(Polygon)",
}
_ELEMENT_NAME = re.compile(r"(?:`(?:[^`\\]|\\.)*`|\w+) +(?=\S)")
_SEPARATORS = re.compile(r"""'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|[(),]""")

Skip = Callable[[bytes, int, int], int]
"""(data, where it begins, rows) -> where it ends."""


def revised(data: bytes, revision: int) -> bytes:
    """Whole blocks of revision 0 as blocks of `revision`.

    Raises ClickHouseError 48 for a column whose type cannot be passed over.
    """
    if revision <= 0:
        return data
    flag = b"" if revision < _WITH_CUSTOM_FLAG else b"\x00"
    made: list[bytes] = []
    at = 0
    while at < len(data):
        made.append(_BLOCK_FACTS)
        at = _revise_block(data, at, flag, made)
    return b"".join(made)


def _revise_block(data: bytes, start: int, flag: bytes, made: list[bytes]) -> int:
    columns, at = _number(data, start)
    rows, at = _number(data, at)
    made.append(data[start:at])
    for _ in range(columns):
        _, named = _text(data, at)
        kind, typed = _text(data, named)
        end = _end_of_column(kind.decode(), data, typed, rows)
        made += (data[at:typed], flag, data[typed:end])
        at = end
    return at


def _end_of_column(kind: str, data: bytes, at: int, rows: int) -> int:
    if not rows:
        return at
    head, body = _reader(kind)
    return body(data, at + head, rows)


@lru_cache(maxsize=1024)
def _reader(kind: str) -> tuple[int, Skip]:
    """How many bytes stand before the data of a column of this type, and how its data is passed over."""
    name, _, rest = kind.partition("(")
    inside = _split(rest[:-1]) if rest else []
    if width := _width(name, inside):
        return 0, lambda data, at, rows: at + width * rows
    if name == "String":
        return 0, _skip_strings
    if name in _ALIASES:
        return _reader(_ALIASES[name])
    if name == "SimpleAggregateFunction":
        return _reader(inside[-1])
    if name in _NESTING:
        return _NESTING[name](inside)
    raise refuse(
        NOT_IMPLEMENTED,
        f"{kind} cannot be given to a client of the native protocol here: "
        "select it as a String (toString, toJSONString, finalizeAggregation)",
    )


def _width(name: str, inside: list[str]) -> int:
    if name == "FixedString":
        return int(inside[0])
    if name == "Decimal":
        digits = int(inside[0])
        return 4 if digits <= 9 else 8 if digits <= 18 else 16 if digits <= 38 else 32
    if name.startswith("Interval"):
        return 8
    return _WIDTH.get(name, 0)


def _nullable(inside: list[str]) -> tuple[int, Skip]:
    head, body = _reader(inside[0])
    return head, lambda data, at, rows: body(data, at + rows, rows)


def _array(inside: list[str]) -> tuple[int, Skip]:
    head, body = _reader(inside[0])

    def skip(data: bytes, at: int, rows: int) -> int:
        if not rows:
            return at
        at += 8 * rows
        return body(data, at, _COUNT.unpack_from(data, at - 8)[0])

    return head, skip


def _tuple(inside: list[str]) -> tuple[int, Skip]:
    """Its elements one after the other; one byte a row when it has none."""
    if not inside:
        return 0, lambda data, at, rows: at + rows
    readers = [_reader(_ELEMENT_NAME.sub("", element, count=1)) for element in inside]

    def skip(data: bytes, at: int, rows: int) -> int:
        for _, body in readers:
            at = body(data, at, rows)
        return at

    return sum(head for head, _ in readers), skip


def _map(inside: list[str]) -> tuple[int, Skip]:
    return _array([f"Tuple({', '.join(inside)})"])


def _low_cardinality(inside: list[str]) -> tuple[int, Skip]:
    """A version before the data; then which width the places have, the values, and a place a row."""
    kind = inside[0].removeprefix("Nullable(").removesuffix(")")
    _, values = _reader(kind if inside[0].startswith("Nullable(") else inside[0])

    def skip(data: bytes, at: int, rows: int) -> int:
        if not rows:
            return at
        width = 1 << (data[at] & 0xF)
        at = values(data, at + 16, _COUNT.unpack_from(data, at + 8)[0])
        return at + 8 + width * rows

    return 8, skip


_NESTING: dict[str, Callable[[list[str]], tuple[int, Skip]]] = {
    "Nullable": _nullable,
    "Array": _array,
    "Tuple": _tuple,
    "Nested": lambda inside: _array([f"Tuple({', '.join(inside)})"]),
    "Map": _map,
    "LowCardinality": _low_cardinality,
}


def _split(text: str) -> list[str]:
    """The parameters of a type, cut at the commas that are not inside of one."""
    parts, depth, begin = [], 0, 0
    for found in _SEPARATORS.finditer(text):
        mark = found.group()
        depth += (mark == "(") - (mark == ")")
        if mark == "," and depth == 0:
            parts.append(text[begin : found.start()].strip())
            begin = found.end()
    last = text[begin:].strip()
    return [*parts, last] if last else parts


def _skip_strings(data: bytes, at: int, rows: int) -> int:
    for _ in range(rows):
        size = data[at]
        at += 1
        if size >= 0x80:
            size, at = _number(data, at - 1)
        at += size
    return at


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _number(data, at)
    return data[at : at + size], at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
