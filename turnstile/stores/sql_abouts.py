"""What each SQL database can't promise as a store, for `turnstile store check` and the documents."""

from __future__ import annotations

from turnstile.stores.port import About, Role

BOTH: frozenset[Role] = frozenset({"state", "history"})
ABOUTS = {
    "sqlite": About(
        name="SQLite",
        roles=BOTH,
        cannot=("several machines: the file is shared by processes of one", "two writers at once"),
    ),
    "postgresql": About(
        name="PostgreSQL",
        roles=BOTH,
        cannot=(
            "an append on the disk before it is acknowledged where synchronous_commit or fsync is off",
            "what was written just before a failover to an asynchronous replica",
        ),
    ),
}
