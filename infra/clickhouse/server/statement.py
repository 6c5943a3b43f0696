"""Splits a statement: where an INSERT ends and its data begins, and the FORMAT that a query names.

A lexer for just that much of SQL. It reads bytes, since data after `FORMAT` need not be text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# The engine's own limit on the text of a query (`max_query_size`).
MAX_STATEMENT = 262_144

_TOKEN = re.compile(
    rb"""(?P<space>\s+|--[^\n]*|//[^\n]*|\#[^\n]*|/\*.*?\*/)
    |(?P<string>'(?:[^'\\]|\\.|'')*')
    |(?P<name>"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`)
    |(?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<word>[A-Za-z_][\w$]*)
    |(?P<other>[0-9][\w.]*|.)""",
    re.VERBOSE | re.DOTALL,
)
_AFTER_FORMAT = re.compile(rb"[ \t\f]*\r?\n?")


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: bytes
    start: int
    end: int
    depth: int

    @property
    def keyword(self) -> str:
        """The word in capitals; empty for anything that is not a bare word."""
        return self.text.decode().upper() if self.kind == "word" else ""


@dataclass(frozen=True, slots=True)
class Insert:
    """`INSERT INTO …` up to but without FORMAT; its data starts at `data_at` of the text."""

    statement: bytes
    format: str
    data_at: int


def tokens(text: bytes) -> Iterator[Token]:
    """All tokens but white space and comments, with how deep in brackets each is."""
    depth = 0
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup or "other"
        kind = "heredoc" if kind == "tag" else kind
        if kind == "space":
            continue
        token = found.group()
        if token == b")":
            depth -= 1
        yield Token(kind, token, found.start(), found.end(), depth)
        if token == b"(":
            depth += 1


def first_word(text: bytes) -> str:
    """The first keyword, in capitals, whatever brackets stand before it."""
    for token in tokens(text[:MAX_STATEMENT]):
        if token.text != b"(":
            return token.keyword
    return ""


def find_insert(text: bytes) -> Insert | None:
    """The INSERT with data that `text` begins with; None if it has none (`INSERT … SELECT`).

    Without FORMAT or VALUES the data is in the Values format, as the engine has it.
    """
    for token in tokens(text[:MAX_STATEMENT]):
        if token.keyword in ("SELECT", "WITH", "INFILE", "WATCH"):
            return None
        if token.depth:
            continue
        if token.keyword == "VALUES":
            return Insert(text[: token.start], "Values", token.end)
        if token.keyword == "FORMAT":
            return _with_format(text, token)
    return Insert(text.rstrip().rstrip(b";"), "Values", len(text))


def named_format(text: bytes) -> str | None:
    """The FORMAT a query ends with, if any."""
    before: Token | None = None
    found: str | None = None
    for token in tokens(text):
        if before is not None and before.keyword == "FORMAT" and token.kind == "word":
            found = token.text.decode()
        before = token if token.depth == 0 else None
    return found


def _with_format(text: bytes, keyword: Token) -> Insert | None:
    name = next(iter(tokens(text[keyword.end : MAX_STATEMENT])), None)
    if name is None or name.kind != "word":
        return None
    end = keyword.end + name.end
    gap = _AFTER_FORMAT.match(text, end)
    return Insert(text[: keyword.start], name.text.decode(), gap.end() if gap else end)
