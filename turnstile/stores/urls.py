"""A store from its URL: which database, and how many connections and seconds it may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from shared.clock import Clock, utcnow
from shared.errors import Rejected
from turnstile.stores.port import Backend, Role
from turnstile.stores.store import SessionStore

POOL, MOST_CONNECTIONS = 8, 200
TIMEOUT_S, SHORTEST_S, LONGEST_S = 10.0, 0.1, 600.0


@dataclass(frozen=True, slots=True)
class Address:
    """A store's URL, taken apart. `options` are those of its query that are for the database's client."""

    parts: SplitResult
    pool: int
    timeout: float
    options: dict[str, str]


def open_store(url: str, *, role: Role = "state", clock: Clock = utcnow) -> SessionStore:
    """The store at that URL; `start` it, or use `async with`, before anything else.

    Raises Rejected, naming what to change, when the URL can't be taken or when it can't be what `role` asks for.
    Options of every URL: `pool` (connections, 8) and `timeout`
    (seconds, 10).
    """
    address = _address(url)
    backend = _maker(address.parts.scheme)(address)
    if role not in backend.about.roles:
        why = "; ".join(backend.about.cannot)
        words = f"{backend.about.name} can't be the {role} store. It can't promise: {why}"
        raise Rejected("cannot_promise", words, field="url")
    return SessionStore(backend, timeout=address.timeout, clock=clock)


def _address(url: str) -> Address:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise Rejected(
            "bad_url", "a store's URL can't be read: is its port a number?", field="url"
        ) from None
    _maker(parts.scheme)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    pool = _number(options.pop("pool", str(POOL)), "pool", 1, MOST_CONNECTIONS)
    timeout = _number(options.pop("timeout", str(TIMEOUT_S)), "timeout", SHORTEST_S, LONGEST_S)
    return Address(parts, int(pool), timeout, options)


def _maker(scheme: str) -> Callable[[Address], Backend]:
    if scheme not in SCHEMES:
        known = ", ".join(sorted(SCHEMES))
        raise Rejected("bad_url", f"a store's URL begins with one of: {known}", field="url")
    return SCHEMES[scheme]


def _number(text: str, name: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise Rejected("bad_url", f"{name} is a number from {least:g} to {most:g}", field=name)
    return value


def _none_left(options: dict[str, str]) -> None:
    if options:
        raise Rejected(
            "bad_url",
            f"options are pool and timeout, not {', '.join(sorted(options))}",
            field="url",
        )


def _path(address: Address) -> Path:
    """The path after three slashes is absolute (`sqlite:////var/a.db` too), after `///./` relative."""
    path = unquote(address.parts.path)
    if address.parts.netloc or path in ("", "/"):
        raise Rejected("bad_url", "the URL of a file has three slashes and a path", field="url")
    relative = path.startswith("/./")
    return Path(path[1:] if relative or path.startswith("//") else path)


def _files(address: Address) -> Backend:
    from turnstile.stores.files import FilesBackend

    _none_left(address.options)
    return FilesBackend(_path(address), address.pool)


def _sqlite(address: Address) -> Backend:
    from turnstile.stores.sql import SqlBackend, engine_on

    _none_left(address.options)
    path = _path(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    url = f"sqlite+aiosqlite:///{path}"
    return SqlBackend(engine_on(url, pool=address.pool, timeout=address.timeout, options={}))


def _postgres(address: Address) -> Backend:
    from turnstile.stores.sql import SqlBackend, engine_on

    if address.parts.path in ("", "/"):
        raise Rejected("bad_url", "the URL ends with the name of a database", field="url")
    url = address.parts._replace(scheme="postgresql+asyncpg", query="", fragment="").geturl()
    options = address.options
    return SqlBackend(engine_on(url, pool=address.pool, timeout=address.timeout, options=options))


SCHEMES: dict[str, Callable[[Address], Backend]] = {
    "file": _files,
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
}
