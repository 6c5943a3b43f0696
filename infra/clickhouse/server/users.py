"""Users of the embedded server: name, password, tenants, and whether they may write."""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.clickhouse.server.errors import AUTHENTICATION_FAILED, REQUIRED_PASSWORD, refuse

BUNDLED = Path(__file__).with_name("users.toml")
_KEYS = {"password", "password_sha256", "readonly", "database", "settings", "tenants"}
_TENANT = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class UsersFileError(Exception):
    """The users file is not usable; the message names the user, the field and the fix."""


@dataclass(frozen=True, slots=True)
class User:
    """`readonly` as in ClickHouse: 0 all, 1 reads only, 2 reads and own settings.

    `settings` are set for every query and, for readonly users, cannot be changed. With `tenants` only rows of
    these are seen; such a user is read-only.
    """

    name: str
    password_sha256: str | None
    readonly: int = 0
    database: str = "default"
    settings: Mapping[str, str] = field(default_factory=dict)
    tenants: tuple[str, ...] = ()


class Users:
    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = dict(users)

    @property
    def without_password(self) -> list[str]:
        return [user.name for user in self._users.values() if user.password_sha256 is None]

    def authenticate(self, name: str | None, password: str | None) -> User:
        """The user of these credentials; no name means `default`.

        Raises ClickHouseError 516 (403), or 194 (401) where nothing was given at all. An unknown
        name and a wrong password look the same.
        """
        user = self._users.get(name or "default")
        given = hashlib.sha256((password or "").encode()).hexdigest()
        if user is not None and user.password_sha256 is None:
            return user
        if user is not None and hmac.compare_digest(user.password_sha256 or "", given):
            return user
        if name is None and password is None:
            raise refuse(REQUIRED_PASSWORD, "default: a user and a password are required")
        raise refuse(
            AUTHENTICATION_FAILED,
            f"{name or 'default'}: Authentication failed: password is incorrect, or there is no "
            "user with such name",
        )


def load_users(path: Path) -> Users:
    """Read a users file (TOML, one `[users.NAME]` table each; see users.toml beside this file).

    Raises UsersFileError.
    """
    try:
        tables = tomllib.loads(path.read_text())["users"]
    except OSError as error:
        raise UsersFileError(f"{path}: {error.strerror}: give --users a readable file") from error
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise UsersFileError(f"{path}: not a users file: {error}") from error
    return Users({name: _user(path, name, table) for name, table in tables.items()})


def _user(path: Path, name: str, table: dict[str, Any]) -> User:
    for key in table:
        if key not in _KEYS:
            raise UsersFileError(f"{path}: users.{name}.{key}: unknown; one of {sorted(_KEYS)}")
    readonly = table.get("readonly", 0)
    if readonly not in (0, 1, 2):
        raise UsersFileError(f"{path}: users.{name}.readonly: must be 0, 1 or 2")
    tenants = _tenants(path, name, table)
    if tenants and readonly != 1:
        raise UsersFileError(f"{path}: users.{name}.readonly: must be 1 for a user with tenants")
    return User(
        name=name,
        tenants=tenants,
        password_sha256=_password(path, name, table),
        readonly=readonly,
        # With readonly 2, `default` is closed (see guard.py); `system` is open to everyone.
        database=str(table.get("database", "system" if readonly == 2 else "default")),
        settings={key: _literal(value) for key, value in table.get("settings", {}).items()},
    )


def _tenants(path: Path, name: str, table: dict[str, Any]) -> tuple[str, ...]:
    """None given: every tenant's rows. An empty list is a mistake, not everything."""
    if "tenants" not in table:
        return ()
    given = table["tenants"]
    fits = isinstance(given, list) and all(
        isinstance(t, str) and _TENANT.fullmatch(t) for t in given
    )
    if not given or not fits:
        raise UsersFileError(f'{path}: users.{name}.tenants: a list of tenants, such as ["acme"]')
    if "additional_table_filters" in table.get("settings", {}):
        raise UsersFileError(
            f"{path}: users.{name}.settings.additional_table_filters: is made from tenants, leave it out"
        )
    return tuple(given)


def _password(path: Path, name: str, table: dict[str, Any]) -> str | None:
    if hashed := table.get("password_sha256"):
        if len(hashed) != 64:
            raise UsersFileError(f"{path}: users.{name}.password_sha256: 64 hex digits expected")
        return str(hashed).lower()
    if plain := table.get("password"):
        return hashlib.sha256(str(plain).encode()).hexdigest()
    return None


def _literal(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
