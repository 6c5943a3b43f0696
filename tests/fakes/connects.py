"""Connect links in memory, and servers that answer what a test says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from services.gateway.connect.answers import OauthAnswer
from services.gateway.connect.records import LinkRecord, Status
from shared.errors import Transient


class MemoryLinks:
    """The LinkStore port. `rows` by id; `down`: the database is away."""

    def __init__(self) -> None:
        self.rows: dict[str, LinkRecord] = {}
        self.down = False

    async def add(self, record: LinkRecord) -> None:
        """See LinkStore.add."""
        self._require_up()
        self.rows[record.id] = record

    async def record(self, id: str) -> LinkRecord | None:
        """See LinkStore.record."""
        self._require_up()
        return self.rows.get(id)

    async def begin(self, id: str, browser: str) -> bool:
        """See LinkStore.begin."""
        self._require_up()
        row = self.rows.get(id)
        if row is None or row.status != "open" or row.browser not in ("", browser):
            return False
        self.rows[id] = msgspec.structs.replace(row, browser=browser)
        return True

    async def move(self, id: str, browser: str, before: Status, after: Status) -> bool:
        """See LinkStore.move."""
        self._require_up()
        row = self.rows.get(id)
        if row is None or (row.status, row.browser) != (before, browser):
            return False
        sealed = "" if after == "done" else row.sealed
        self.rows[id] = msgspec.structs.replace(row, status=after, sealed=sealed)
        return True

    async def sweep(self, before: float) -> int:
        """See LinkStore.sweep."""
        self._require_up()
        old = [id for id, row in self.rows.items() if row.expires_at < before]
        for id in old:
            del self.rows[id]
        return len(old)

    def _require_up(self) -> None:
        if self.down:
            raise Transient("database_unavailable", "it does not answer", retry_after=1)


class MemoryOauth:
    """The OauthHttp port. `says` is what each address answers, or raises; others answer 404. `asked` is what was
    asked."""

    def __init__(self) -> None:
        self.says: dict[str, OauthAnswer | Exception] = {}
        self.asked: list[tuple[str, Any]] = []

    def say(self, url: str, body: Any, status: int = 200) -> None:
        """From now on this address answers this JSON."""
        self.says[url] = OauthAnswer(status=status, body=msgspec.json.encode(body))

    async def get(self, url: str, *, body: bool = True) -> OauthAnswer:
        """See OauthHttp.get."""
        return self._answer(url, None)

    async def post(
        self,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> OauthAnswer:
        """See OauthHttp.post."""
        return self._answer(url, {"form": form, "json": json, "headers": dict(headers or {})})

    def _answer(self, url: str, sent: Any) -> OauthAnswer:
        self.asked.append((url, sent))
        found = self.says.get(url, OauthAnswer(status=404))
        if isinstance(found, Exception):
            raise found
        return found
