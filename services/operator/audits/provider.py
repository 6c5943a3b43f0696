"""The provider's lists for audits, raw, through the SDK, which knows keys, headers and errors.

The SDK is imported when the provider is asked: it takes over a second of processor time, which neither `--help` nor
a command that asks nobody has to pay.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct
from pydantic import SecretStr

from services.operator.audits.cost_report import CostReport, UsageReport
from services.operator.audits.evidence import Listed, ProviderLog, digest
from services.operator.failures import Impossible
from shared.orphans import MARK
from shared.retry import patiently
from shared.settings import ProviderSettings

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

TIMEOUT_S = 30.0
# Tried again when the provider is busy: an audit has time.
TRIES, FIRST_WAIT, LONGEST_WAIT = 6, 0.5, 20.0
PAGE = 500
PRODUCT = "managed_agents_api"


class _Page(Struct):
    data: list[Raw] = []
    next_page: str | None = None


class _Event(Struct):
    id: str = ""
    type: str = ""
    processed_at: str | None = None


class Session(Struct):
    """A provider session, as far as it matters whose it is."""

    id: str
    created_at: str = ""
    status: str = ""
    archived_at: str | None = None
    metadata: dict[str, str] = {}


class _Cost(Struct):
    amount: str
    list_amount: str


class _Group(Struct):
    session_id: str | None = None


class _CostRow(Struct):
    cost: _Cost
    group: _Group


class _CostPage(Struct):
    data: list[_CostRow] = []
    data_refreshed_at: str | None = None


class _Written(Struct, frozen=True):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class _Usage(Struct):
    uncached_input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation: _Written = _Written()

    @property
    def tokens(self) -> tuple[int, ...]:
        """In the order of KINDS."""
        written = self.cache_creation
        return (
            self.uncached_input_tokens,
            self.output_tokens,
            self.cache_read_input_tokens,
            written.ephemeral_5m_input_tokens + written.ephemeral_1h_input_tokens,
        )


class _UsageRow(Struct):
    usage: _Usage
    group: _Group


class _UsagePage(Struct):
    data: list[_UsageRow] = []


class _Thread(Struct):
    id: str = ""
    parent_thread_id: str | None = None


_page = msgspec.json.Decoder(_Page)
_event = msgspec.json.Decoder(_Event)
_session = msgspec.json.Decoder(Session)
_thread = msgspec.json.Decoder(_Thread)
_costs = msgspec.json.Decoder(_CostPage)
_usages = msgspec.json.Decoder(_UsagePage)


class Provider:
    """Reads lists; archives when asked. Raises what the SDK raises."""

    def __init__(self, client: AsyncAnthropic) -> None:
        self._client = client

    async def log(self, session: str) -> ProviderLog:
        """All that the provider lists of a session; `gone` when it knows none of that id (any more)."""
        import anthropic

        sessions = self._client.beta.sessions
        try:
            events = await self._events(
                sessions.events.with_raw_response.list, session_id=session, order="asc"
            )
            log = ProviderLog(session, {"": events})
            async for raw in self._items(
                sessions.threads.with_raw_response.list, session_id=session
            ):
                thread = _thread.decode(raw)
                if thread.parent_thread_id is not None:
                    log.threads[thread.id] = await self._events(
                        sessions.threads.events.with_raw_response.list,
                        session_id=session,
                        thread_id=thread.id,
                    )
        except anthropic.NotFoundError:
            return ProviderLog(session, gone=True)
        return log

    async def sessions(self, since: datetime, *, archived: bool = False) -> AsyncIterator[Session]:
        """Sessions made since then, newest first; `archived` ones too, when asked for."""
        ask = self._client.beta.sessions.with_raw_response.list
        more = {"include_archived": True} if archived else {}
        async for raw in self._items(ask, created_at_gte=since, **more):
            yield _session.decode(raw)

    async def mark(self, session: str) -> str | None:
        """The mark in the metadata of a session ("": none); None when the provider knows none of that id."""
        import anthropic

        ask = self._client.beta.sessions.with_raw_response.retrieve
        try:
            raw = await _patiently(ask, {"session_id": session})
        except anthropic.NotFoundError:
            return None
        return _session.decode(raw).metadata.get(MARK, "")

    async def costs(self, since: datetime, until: datetime) -> CostReport:
        """What each managed session cost between two full hours, of at most 31 days. Needs a key that may read
        analytics."""
        ask = self._client.beta.organization.analytics.cost.with_raw_response.list
        report = CostReport()
        async for raw in self._reports(ask, since, until):
            page = _costs.decode(raw)
            for row in page.data:
                report.add(row.group.session_id or "", row.cost.list_amount, row.cost.amount)
            report.refreshed_at = page.data_refreshed_at or report.refreshed_at
        return report

    async def usage(self, since: datetime, until: datetime) -> UsageReport:
        """The tokens that each managed session used, likewise."""
        ask = self._client.beta.organization.analytics.usage.with_raw_response.list
        report = UsageReport()
        async for raw in self._reports(ask, since, until):
            for row in _usages.decode(raw).data:
                report.add(row.group.session_id or "", row.usage.tokens)
        return report

    async def _reports(self, ask: Any, since: datetime, until: datetime) -> AsyncIterator[bytes]:
        """The pages of a report by session."""
        about = {
            "starting_at": since,
            "ending_at": until,
            "group_by": ["session_id"],
            "products": [PRODUCT],
            "limit": PAGE,
        }
        page: str | None = ""
        while page is not None:
            raw = await _patiently(ask, {**about, "page": page} if page else about)
            yield raw
            page = _page.decode(raw).next_page or None

    async def delete(self, session: str) -> None:
        """Delete a session that is not running; one that runs, is gone, or cannot be reached is left as it is."""
        import anthropic

        try:
            await self._client.beta.sessions.delete(session)
        except (anthropic.NotFoundError, anthropic.BadRequestError):
            return
        except anthropic.APIError as error:
            if not passes(error):
                raise

    async def delete_vault(self, vault: str) -> str:
        """Delete a vault with all its credentials; one that is gone counts as deleted. Why it is there still, in
        words, "" once it is not."""
        import anthropic

        try:
            await _patiently(self._client.beta.vaults.with_raw_response.delete, {"vault_id": vault})
        except anthropic.NotFoundError:
            return ""
        except anthropic.APIError as error:
            return no_answer(error)
        return ""

    async def archive(self, session: str) -> None:
        """Archive a session; one that is gone counts as archived."""
        import anthropic

        try:
            await self._client.beta.sessions.archive(session)
        except anthropic.NotFoundError:
            return

    async def _events(self, ask: Any, **about: Any) -> list[Listed]:
        found = []
        async for raw in self._items(ask, **about):
            event = _event.decode(raw)
            if event.id:
                found.append(Listed(event.id, event.type, event.processed_at, digest(raw)))
        return found

    async def _items(self, ask: Any, **about: Any) -> AsyncIterator[bytes]:
        more: dict[str, Any] = {}
        while True:
            page = _page.decode(await _patiently(ask, {**about, **more, "limit": PAGE}))
            for raw in page.data:
                yield bytes(raw)
            if not page.next_page:
                return
            more = {"page": page.next_page}


async def _patiently(ask: Any, arguments: dict[str, Any]) -> bytes:
    """The body of an answer. Reads and deletions may be repeated; a refusal for good is raised at once."""

    async def read() -> bytes:
        answer = await ask(**arguments)
        return bytes(await answer.read())

    return await patiently(
        read,
        on=passes,
        first=FIRST_WAIT,
        longest=LONGEST_WAIT,
        say=lambda failures, error: None,
        tries=TRIES,
    )


def no_answer(error: Exception) -> str:
    """What is told of an error of the SDK's, without what the provider said."""
    status = getattr(error, "status_code", None)
    return (
        f"the provider answered {status}"
        if status
        else f"the provider is away ({type(error).__name__})"
    )


def passes(error: Exception) -> bool:
    """Whether asking again may help."""
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        return error.status_code >= 500 or error.status_code == 429
    return isinstance(error, anthropic.APIConnectionError)


@asynccontextmanager
async def connected(key: SecretStr | None = None) -> AsyncIterator[Provider]:
    """The provider that `ANTHROPIC_*` name, asked with another `key` where one is given. Raises Impossible when
    they name none."""
    from anthropic import AsyncAnthropic

    settings = ProviderSettings()
    key = key or settings.anthropic_api_key
    if key is None:
        raise Impossible("set ANTHROPIC_API_KEY (and ANTHROPIC_BASE_URL), as for the agent-worker")
    client = AsyncAnthropic(
        api_key=key.get_secret_value(),
        base_url=settings.anthropic_base_url,
        max_retries=0,
        timeout=TIMEOUT_S,
    )
    try:
        yield Provider(client)
    finally:
        await client.close()
