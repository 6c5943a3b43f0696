"""The statements that a read-only user may send.

The engine itself refuses most of it once `readonly` is set: writes, DDL, settings, and the table
functions that create a temporary table. This closes what is left, which was found by trying:

- the scalar function `file` reads any file of the machine, also unnamed as a function, as in
  `arrayMap(file, …)` or `* APPLY(file)`;
- table functions are looked at (DESCRIBE) before they are refused;
- `INTO OUTFILE` writes a file; several statements in one text hide the second;
- `readonly = 2` lets a user raise the limits set for it, and read files as tables of the database
  `default`, in which chDB has a view of the file system.

Words are looked for outside string literals. Where a text could be read differently by the
engine's lexer (comments, `$`, typographic quotes) the whole text is searched instead: too strict
rather than too late, and the error says what to leave out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from infra.clickhouse.server.errors import READONLY, SETTING_CONSTRAINT, refuse
from infra.clickhouse.server.statement import first_word, tokens

# Scalar functions that reach files, the network or the program's own code.
SCALARS = frozenset(
    {"file", "eval", "python", "hascolumnintable", "catboostevaluate", "reversednsquery"}
    | {"addresstoline", "addresstolinewithinlines", "addresstosymbol", "showcertificate"}
    | {f"ai{name}" for name in ("classify", "embed", "extract", "filter", "generate")}
    | {f"ai{name}" for name in ("redact", "similarity", "translate", "generatecontent")}
)
# Table functions that only compute or only look into this database.
HARMLESS = frozenset(
    {"numbers", "numbers_mt", "zeros", "zeros_mt", "generateseries", "generate_series", "primes"}
    | {"generaterandom", "values", "sqlstandardvalues", "view", "null", "format"}
    | {"dictionary"}
)
# What clickhouse-server lets a read-only session do besides reading.
_SESSION_WORDS = ("USE", "SET")
_AMBIGUOUS = re.compile("--|//|/\\*|[$#\u2018\u2019\u201c\u201d]")
_LITERAL = re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_DEFAULT_TABLE = re.compile(r"\bdefault\b[\s`\"]*\.")
_PREWHERE = re.compile(rb"\bprewhere\b", re.IGNORECASE)
_DEFAULT = re.compile(r"\bdefault\b")
_IDENTIFIER_PARAM = re.compile(r":\s*Identifier\s*\}", re.IGNORECASE)


def check_read_only(
    statement: bytes,
    *,
    reads_only: bool,
    statements: int,
    table_functions: Collection[str],
    params: Mapping[str, str],
) -> None:
    """Raise ClickHouseError 164 unless this is one statement that only reads this database.

    `reads_only` and `statements` are the engine's own reading of it; what it cannot parse
    (`statements` 0) passes, to be refused with its syntax error.
    """
    if statements > 1:
        raise refuse(READONLY, "Multi-statements are not allowed in readonly mode")
    if statements and not reads_only and first_word(statement) not in _SESSION_WORDS:
        raise refuse(READONLY, "Cannot execute query in readonly mode")
    text = statement.decode(errors="replace")
    _check_words(text, SCALARS, frozenset(table_functions) - HARMLESS)
    if _IDENTIFIER_PARAM.search(text):
        for value in params.values():
            _check_words(value, SCALARS, frozenset())


def check_locked(statement: bytes, locked: Collection[str]) -> None:
    """Raise ClickHouseError 452 if the text names one of the settings a user may not change."""
    text = statement.decode(errors="replace").lower()
    for name in locked:
        if re.search(rf"\b{re.escape(name.lower())}\b", text):
            raise refuse(SETTING_CONSTRAINT, f"Setting {name} should not be changed")


def check_bound(statement: bytes) -> None:
    """Raise ClickHouseError 164 for what a user bound to tenants may not say (see rows.py)."""
    if _PREWHERE.search(statement):
        raise refuse(READONLY, "PREWHERE is not allowed for a user bound to tenants: use WHERE")


def check_default(statement: bytes, database: str, params: Mapping[str, str]) -> None:
    """Raise ClickHouseError 164 if the text can reach a table of the database `default`."""
    text = statement.decode(errors="replace").lower()
    hidden = first_word(statement) == "USE" or _AMBIGUOUS.search(_LITERAL.sub("''", text))
    named = _IDENTIFIER_PARAM.search(text) and any(_DEFAULT.search(v) for v in params.values())
    if (
        database == "default"
        or named
        or _DEFAULT_TABLE.search(text)
        or (hidden and _DEFAULT.search(text))
    ):
        raise refuse(READONLY, "The database default reaches files: name another one")


def _check_words(text: str, anywhere: Iterable[str], before_bracket: Collection[str]) -> None:
    if _AMBIGUOUS.search(_LITERAL.sub("''", text)):
        words = set(re.findall(r"\w+", text.lower()))
        found = words & (set(anywhere) | set(before_bracket))
        if found:
            raise _refused(found.pop(), hint=" (leave out comments and try again)")
        return
    previous = ""
    for token in tokens(text.encode()):
        if token.text == b"(" and previous in before_bracket:
            raise _refused(previous)
        previous = _name(token.kind, token.text)
        if previous in SCALARS and anywhere:
            raise _refused(previous)


def _name(kind: str, text: bytes) -> str:
    if kind == "word":
        return text.decode().lower()
    if kind != "name":
        return ""
    if b"\\" in text:
        raise refuse(READONLY, "Escapes in quoted names are not allowed in readonly mode")
    return text[1:-1].decode(errors="replace").lower()


def _refused(word: str, hint: str = "") -> Exception:
    return refuse(
        READONLY, f"{word} can reach files or the network: not allowed in readonly mode{hint}"
    )
