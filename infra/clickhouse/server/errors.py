"""ClickHouse's error codes and the HTTP status of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

READONLY = 164
SYNTAX_ERROR = 62
NOT_IMPLEMENTED = 48
UNKNOWN_SETTING = 115
REQUIRED_PASSWORD = 194
TOO_MANY_QUERIES = 202
INCORRECT_DATA = 117
SESSION_NOT_FOUND = 372
SESSION_IS_LOCKED = 373
SETTING_CONSTRAINT = 452
AUTHENTICATION_FAILED = 516
UNKNOWN_EXCEPTION = 1002

_NAMES = {
    READONLY: "READONLY",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    UNKNOWN_SETTING: "UNKNOWN_SETTING",
    REQUIRED_PASSWORD: "REQUIRED_PASSWORD",
    TOO_MANY_QUERIES: "TOO_MANY_SIMULTANEOUS_QUERIES",
    INCORRECT_DATA: "INCORRECT_DATA",
    SESSION_NOT_FOUND: "SESSION_NOT_FOUND",
    SESSION_IS_LOCKED: "SESSION_IS_LOCKED",
    SETTING_CONSTRAINT: "SETTING_CONSTRAINT_VIOLATION",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    UNKNOWN_EXCEPTION: "UNKNOWN_EXCEPTION",
}

# The statuses clickhouse-server gives (503 for 202 is ours: a full server is worth a retry);
# every other code is 500.
_STATUS_OF = {
    400: (
        *(6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123),
        *(167, 168, 223, 321, 376, 427, 441, 675, 676),
    ),
    401: (194,),
    403: (192, 193, 497, 512, 516),
    404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    408: (159,),
    411: (381,),
    413: (229,),
    415: (779,),
    501: (48,),
    503: (76, 202, 209, 439),
}
_STATUS = {code: status for status, codes in _STATUS_OF.items() for code in codes}

_CODE = re.compile(r"Code: (\d+)\. ")
_REPEATED_HEAD = re.compile(r"^(Code: \d+\. DB::Exception: )\1+")
_VERSION_TAIL = re.compile(r"(?: \(version \d[\d.]*(?: \([^()]*\))?\)(?:\. \([A-Z_]+\))?)+\s*$")


class ClickHouseError(Exception):
    """An error with ClickHouse's code; `text` is what the client reads.

    `status` overrides the HTTP status that belongs to the code.
    """

    def __init__(self, code: int, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status or _STATUS.get(code, 500)


def refuse(code: int, reason: str, status: int | None = None) -> ClickHouseError:
    """An error of our own, worded in the engine's form."""
    return ClickHouseError(code, f"Code: {code}. DB::Exception: {reason}. ({_NAMES[code]})", status)


def from_engine(message: str) -> ClickHouseError:
    """The engine's message as it says it, without the wrapper's words around it."""
    found = _CODE.search(message)
    if found is None:
        return refuse(UNKNOWN_EXCEPTION, message.strip().rstrip(".") or "the engine gave no reason")
    text = _REPEATED_HEAD.sub(r"\1", message[found.start() :].strip())
    return ClickHouseError(int(found.group(1)), _VERSION_TAIL.sub("", text))


@contextmanager
def engine_errors() -> Iterator[None]:
    """Every error of the engine inside leaves as a ClickHouseError."""
    try:
        yield
    except ClickHouseError:
        raise
    except Exception as error:
        raise from_engine(str(error)) from None
