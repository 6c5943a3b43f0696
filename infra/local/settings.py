"""Settings of the local stack, read from the environment here alone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from infra.kafka.jars import MAVEN_CENTRAL
from infra.local.errors import StackError
from infra.local.folders import Folders
from infra.local.ports import free_ports

_PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_PORTS = {
    "gateway": 8080,
    "kafka": 9092,
    "clickhouse": 8123,
    "postgres": 5433,
    "simulator": 8090,
}
_MOST_WORKERS = 64


def _about(variable: str, description: str, shown: str = "") -> dict[str, str]:
    """Metadata of a field that one variable sets; `shown` is its default in words."""
    return {"variable": variable, "description": description, "shown": shown}


@dataclass(frozen=True, slots=True)
class StackSettings:
    """One stack. An address that is None belongs to a part that the stack starts itself.

    `ports` has one entry a name of DEFAULT_PORTS, none of them 0. `environment` is what the
    processes inherit before the stack adds its addresses.
    """

    folders: Folders = field(
        metadata=_about("TURNSTILE_VAR", "the state folder", "`var/` in the project")
    )
    ports: Mapping[str, int]
    cache: Path = field(
        metadata=_about("XDG_CACHE_HOME", "the jars are in `turnstile/jars` below it", "`~/.cache`")
    )
    workers: int = field(default=1, metadata=_about("TURNSTILE_WORKERS", "number of agent-workers"))
    kafka_bootstrap: str | None = field(
        default=None,
        metadata=_about("TURNSTILE_KAFKA_BOOTSTRAP", "a broker of your own; none is started"),
    )
    clickhouse_url: str | None = field(
        default=None,
        metadata=_about("TURNSTILE_CLICKHOUSE_URL", "a ClickHouse of your own; none is started"),
    )
    database_url: str | None = field(
        default=None,
        metadata=_about("TURNSTILE_DATABASE_URL", "a database of your own; none is started"),
    )
    anthropic_base_url: str | None = field(
        default=None, metadata=_about("ANTHROPIC_BASE_URL", "a provider elsewhere: no simulator")
    )
    anthropic_api_key: str | None = field(
        default=None,
        repr=False,
        metadata=_about(
            "ANTHROPIC_API_KEY", "set: no simulator. Only agent-workers are given the key"
        ),
    )
    api_keys: str | None = field(
        default=None,
        repr=False,
        metadata=_about(
            "TURNSTILE_API_KEYS", "only the gateway is given the keys", "one, made at first start"
        ),
    )
    maven_url: str = field(
        default=MAVEN_CENTRAL, metadata=_about("TURNSTILE_MAVEN_URL", "a mirror for the jars")
    )
    watcher: bool = field(
        default=True,
        metadata=_about(
            "TURNSTILE_WATCHER",
            "0: no part `watcher`, so that nobody ends canaries that do worse",
            "1",
        ),
    )
    durable: bool = True
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def variable_of(part: str) -> str:
    """The variable that sets a part's port."""
    return f"TURNSTILE_{part.upper()}_PORT"


def read_settings(environ: Mapping[str, str] | None = None) -> StackSettings:
    """The settings that an environment (default: this process's) asks for.

    An empty variable counts as unset, port 0 as any free port. Raises StackError that names the
    variable when a value makes no sense.
    """
    env = {name: value for name, value in (environ or os.environ).items() if value}
    return StackSettings(
        folders=Folders(Path(env.get("TURNSTILE_VAR", _PROJECT / "var")).absolute()),
        ports=_ports(env),
        cache=cache_folder(env),
        workers=_number(env, "TURNSTILE_WORKERS", 1, range(1, _MOST_WORKERS + 1)),
        watcher=_number(env, "TURNSTILE_WATCHER", 1, range(2)) == 1,
        environment=env,
        **_texts(env),
    )


def _texts(env: Mapping[str, str]) -> dict[str, Any]:
    """The fields that are taken as they come."""
    names = {
        one.name: one.metadata.get("variable", "")
        for one in fields(StackSettings)
        if one.name not in ("folders", "cache", "workers", "watcher")
    }
    return {name: env[variable] for name, variable in names.items() if variable in env}


def own_settings(root: Path, environ: Mapping[str, str] | None = None) -> StackSettings:
    """Settings of a stack apart: everything its own, on free ports, state under `root`.

    What the environment says about addresses and keys is left aside, so that a demo or a test
    can never write into somebody's running stack. It has no `watcher`.
    """
    env = dict(environ or os.environ)
    for name in list(env):
        if name.startswith(("TURNSTILE_", "ANTHROPIC_")) and name != "TURNSTILE_MAVEN_URL":
            del env[name]
    env["TURNSTILE_VAR"] = str(root)
    env["TURNSTILE_WATCHER"] = "0"
    env.update({variable_of(part): "0" for part in DEFAULT_PORTS})
    return read_settings(env)


def cache_folder(env: Mapping[str, str]) -> Path:
    """The user's cache folder for what is fetched once: `$XDG_CACHE_HOME/turnstile`."""
    home = env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or Path.home(), ".cache")
    return Path(home).absolute() / "turnstile"


def _ports(env: Mapping[str, str]) -> dict[str, int]:
    asked = {
        part: _number(env, variable_of(part), default, range(65536))
        for part, default in DEFAULT_PORTS.items()
    }
    spare = iter(free_ports(len(asked)))
    return {part: port or next(spare) for part, port in asked.items()}


def _number(env: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    text = env.get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) not in allowed:
        raise StackError(
            f"{name}={text!r}: a whole number from {allowed.start} to {allowed.stop - 1} is wanted"
        )
    return int(text)
