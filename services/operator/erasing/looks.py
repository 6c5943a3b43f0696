"""Looks at sessions before they are erased, meanwhile and after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.operator import addresses
from services.operator.archive import ArchiveReader
from services.operator.audits import provider
from services.operator.audits.provider import Provider
from services.operator.dead import letters as dead_letters
from services.operator.dead.redrive import mark_erased
from services.operator.erasing import archive as erase_archive
from services.operator.erasing.certificate import Erased
from services.operator.erasing.sql import SqlStores, sql_stores
from services.operator.failures import Impossible
from shared.clock import utcnow
from shared.moment import parse
from shared.orphans import MARK, owner
from shared.session.key import SessionKey

# A provider session is made after its session was opened; clocks differ.
CLOCKS_DIFFER = timedelta(hours=1)
# Of a session whose row does not say when it was opened: as far back as the sweep looks.
UNKNOWN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Stores:
    """Every place that is looked at. `bootstrap` and `options` are Kafka's."""

    sql: SqlStores
    archive: ArchiveReader
    provider: Provider
    bootstrap: str
    options: Mapping[str, Any]

    async def of_user(self, tenant: str, user: str) -> list[str]:
        """A user's sessions, by the read model or the archive."""
        shown = await self.sql.of_user(tenant, user)
        recorded = await asyncio.to_thread(erase_archive.of_user, self.archive, tenant, user)
        return sorted({*shown, *recorded})

    async def owner(self, session: str) -> str:
        """The tenant of a session. Raises Impossible when none or more than one has it."""
        found = await self.sql.owners(session)
        if len(found) != 1:
            tenants = f"tenants {', '.join(found)} have" if found else "no tenant has"
            raise Impossible(f"{tenants} a session {session}: say whose it is with --tenant")
        return found[0]

    async def before(self, keys: Collection[SessionKey]) -> list[Erased]:
        """What there is of each session before it is erased. Raises Impossible when there is nothing at all."""
        found = [await self._before(*key) for key in keys]
        living, _ = await self.living(found)
        for key, session in living:
            about = next(one for one in found if one.key == key)
            about.provider_sessions.append(session)
        letters, _ = await dead_letters.of_sessions(self.bootstrap, self.options, keys)
        for one in found:
            one.dead_letters = sum(letter.is_of([one.key]) for letter in letters)
        return found

    async def _before(self, tenant: str, session: str) -> Erased:
        sql = await self.sql.traces(tenant, session)
        rows = await self._archived(tenant, session)
        if not any(sql.rows.values()) and not rows.rows and not rows.asked_at:
            raise Impossible(f"there is no session {session} of tenant {tenant} in any store")
        about = Erased(tenant, session, user=sql.user)
        about.sql_rows = {table: count for table, count in sql.rows.items() if count}
        about.left = [*sql.left, *rows.left]
        return about

    async def left(self, about: Erased) -> list[str]:
        """What SQL and ClickHouse still hold of a session, in words; and what was deleted there, noted in it."""
        sql = await self.sql.traces(about.tenant, about.session)
        rows = await self._archived(about.tenant, about.session)
        about.asked_at = rows.asked_at or about.asked_at
        about.archive_rows = rows.deleted
        about.archive_deleted_at, about.archive_gone_at = rows.deleted_at, rows.gone_at
        waiting = [f"provider: {id}" for id in sql.provider if sql.provider and not sql.left]
        return [*sql.left, *waiting, *rows.left]

    async def living(
        self, sessions: Collection[Erased]
    ) -> tuple[list[tuple[SessionKey, str]], str]:
        """Provider sessions that carry the mark of one of these, archived ones too: whose, and which. And why that
        is not known to be all of them, "" where it is. Raises what the SDK raises for what does not pass, a wrong
        key say."""
        found: list[tuple[SessionKey, str]] = []
        if not sessions:
            return found, ""
        keys = {about.key for about in sessions}
        since = utcnow() - UNKNOWN
        for about in sessions:
            sql = await self.sql.traces(*about.key)
            since = min(since, _moment(sql.opened_at, since) - CLOCKS_DIFFER)
        try:
            async for session in self.provider.sessions(since, archived=True):
                key = owner(session.metadata.get(MARK, ""))
                if key is not None and key in keys:
                    found.append((key, session.id))
        except Exception as error:
            if not provider.passes(error):
                raise
            return found, provider.no_answer(error)
        return found, ""

    async def unmarked(self, keys: Collection[SessionKey]) -> set[SessionKey]:
        """Sessions whose dead letters can be read yet."""
        _, marked = await dead_letters.of_sessions(self.bootstrap, self.options, keys)
        return set(keys) - marked

    async def mark(self, keys: Collection[SessionKey]) -> None:
        """See to it that nobody can read the dead letters of these sessions. Raises KafkaError."""
        await mark_erased(self.bootstrap, self.options, keys, utcnow())

    async def _archived(self, tenant: str, session: str) -> erase_archive.ArchiveTraces:
        return await asyncio.to_thread(erase_archive.traces, self.archive, tenant, session)


@asynccontextmanager
async def every_store() -> AsyncIterator[Stores]:
    """All of them, at the addresses of the environment. Raises Impossible without a provider's key."""
    where, options = addresses.log()
    archive = await asyncio.to_thread(ArchiveReader, addresses.archive().url)
    async with AsyncExitStack() as stack:
        sql = await stack.enter_async_context(sql_stores(addresses.database().url))
        source = await stack.enter_async_context(provider.connected())
        yield Stores(sql, archive, source, where.url, options)


def _moment(text: str, otherwise: datetime) -> datetime:
    try:
        return parse(text)
    except ValueError:
        return otherwise
