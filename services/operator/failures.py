"""Ends a command that failed: one sentence on stderr, no secret in it, and exit code 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from shared.logs import Scrubber

LONGEST = 600


class Impossible(Exception):
    """What was asked for can't be done; the message says why and what to do."""


@contextmanager
def failing_clearly(doing: str, secrets: Sequence[str] = (), code: int = 1) -> Iterator[None]:
    """Turn whatever goes wrong while `doing` something into that sentence and the exit code `code`. `secrets` never
    show in it."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        typer.echo(f"turnstile: {doing}: {Scrubber(secrets)(_reason(error))}", err=True)
        raise typer.Exit(code) from None


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, Impossible):
        return text
    return f"{type(error).__name__}: {text}"[:LONGEST].rstrip(": ")
