"""Stores of sessions for agents: `open_store(URL)` on SQLite, PostgreSQL or JSON files (docs/stores.md)."""

from shared.errors import Rejected, Transient
from turnstile.stores.port import Conflict
from turnstile.stores.store import (
    Damaged,
    Event,
    History,
    Listed,
    Profile,
    Session,
    Sessions,
    SessionStore,
)
from turnstile.stores.urls import open_store

__all__ = [
    "Conflict",
    "Damaged",
    "Event",
    "History",
    "Listed",
    "Profile",
    "Rejected",
    "Session",
    "SessionStore",
    "Sessions",
    "Transient",
    "open_store",
]
