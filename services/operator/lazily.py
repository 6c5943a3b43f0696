"""Commands whose module is imported when they are used, or described by `--help`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup


def lazily(commands: Mapping[str, str]) -> type[TyperGroup]:
    """A group of commands by name, in this order; each is `package.module:function`, or a function that makes a
    Typer of its own commands."""

    class Lazily(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(commands)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return _command(cmd_name, commands[cmd_name]) if cmd_name in commands else None

    return Lazily


def _command(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if found.__annotations__.get("return") in (typer.Typer, "typer.Typer"):
        group = typer.main.get_group(found())
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)
