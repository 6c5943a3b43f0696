"""What connecting depends on. Owned here; implemented in `adapters`, which bound every call in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from services.gateway.connect.answers import OauthAnswer
from services.gateway.connect.records import LinkRecord, Status


class LinkStore(Protocol):
    """The rows of connect links. Raises Transient (`database_unavailable`)."""

    async def add(self, record: LinkRecord) -> None: ...

    async def record(self, id: str) -> LinkRecord | None: ...

    async def begin(self, id: str, browser: str) -> bool:
        """Note who began with an open link: False when that was another browser, or it is not open. Of two at once
        one wins."""

    async def move(self, id: str, browser: str, before: Status, after: Status) -> bool:
        """Another status of a link that this browser began with: False when it had not the one `before`. Of two at
        once one wins. What is sealed in one that is done is gone."""

    async def sweep(self, before: float) -> int:
        """Delete the links that expired before then; how many there were."""


class OauthHttp(Protocol):
    """Requests to OAuth and MCP servers. Each ends within seconds, follows no redirect, and takes a bounded answer.
    Raises Rejected (`oauth_server_refused`) for an address that may not be asked or an answer too long, and
    Transient (`oauth_server_unavailable`); nothing raised holds a part of what was sent or answered."""

    async def get(self, url: str, *, body: bool = True) -> OauthAnswer:
        """Without `body` the answer's is not waited for."""

    async def post(
        self,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> OauthAnswer: ...
