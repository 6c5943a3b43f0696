"""GET /v1/organizations/analytics/cost and …/usage: what sessions cost, by session, agent, model or kind of cost,
and the tokens they used, by session."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator import stamps
from infra.simulator.api.answer import answer
from infra.simulator.api.pages import page_of
from infra.simulator.api.query import Query
from infra.simulator.errors import bad
from infra.simulator.play.bill import HOUR
from infra.simulator.play.session import Session
from infra.simulator.play.usage import CENT, Tokens
from infra.simulator.world import JSON, World

PATH = "/v1/organizations/analytics/{report}"
DAYS = 31
GROUPS = ("agent_id", "cost_type", "environment_id", "model", "product", "session_id")
PRODUCT = "managed_agents_api"
NAMES = ("starting_at", "ending_at", "group_by", "session_ids", "products", "limit", "page")
_DIGITS = Decimal("0.0000000001")

Group = tuple[tuple[str, str | None], ...]


class Reports:
    """The report over one world. Sessions that were deleted are in it: they were paid for."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        return [
            Route(PATH.format(report="cost"), self.cost, methods=["GET"]),
            Route(PATH.format(report="usage"), self.usage, methods=["GET"]),
        ]

    async def usage(self, request: Request) -> Response:
        """As the report of costs; rows are by session, or one for all."""
        query = Query(request, *NAMES)
        start, end = self._range(query)
        fresh = self._fresh()
        by_session = bool(query.many("group_by", ("session_id",)))
        found: dict[str | None, list[Tokens]] = {}
        for session in self._sessions(query):
            used = session.bill.used(start, min(end, fresh))
            if used:
                found.setdefault(session.id if by_session else None, []).extend(used)
        name = f"usage:{start}:{end}:{by_session}"
        listed = sorted(found.items(), key=lambda pair: str(pair[0]))
        page, following, _ = page_of(listed, query.text("page"), name, query.limit(20, 1000))
        rows = [
            {**_span(start, end), "group": {"session_id": session}, "usage": _usage(used)}
            for session, used in page
        ]
        return _reported(rows, following, fresh)

    async def cost(self, request: Request) -> Response:
        """Whole hours of a range of 31 days at most; `cost_type` fans out and does not count towards the limit."""
        query = Query(request, *NAMES)
        start, end = self._range(query)
        fresh = self._fresh()
        groups = [name for name in GROUPS if name in query.many("group_by", GROUPS)]
        found: dict[Group, dict[Group, int]] = {}
        for session in self._sessions(query):
            for charged, parts in session.bill.between(start, min(end, fresh)):
                told = _group(session, charged.cost_type, charged.model, groups)
                outer = tuple(pair for pair in told if pair[0] != "cost_type")
                inner = found.setdefault(outer, {})
                inner[told] = inner.get(told, 0) + parts
        listed = sorted(found.items(), key=lambda pair: (-sum(pair[1].values()), str(pair[0])))
        name = f"cost:{start}:{end}:{groups}"
        page, following, _ = page_of(listed, query.text("page"), name, query.limit(20, 1000))
        rows = [_row(told, parts, start, end) for _, inner in page for told, parts in inner.items()]
        return _reported(rows, following, fresh)

    def _fresh(self) -> int:
        """Until when the reports know what happened."""
        lag = self._world.settings.report_lag_seconds
        return self._world.now() - round(lag * stamps.SECOND)

    def _range(self, query: Query) -> tuple[int, int]:
        start = _time(query, "starting_at")
        if start is None:
            raise bad("starting_at: field required")
        latest = start + DAYS * 24 * HOUR
        end = _time(query, "ending_at")
        end = min(self._world.now(), latest) if end is None else end
        if not start < end <= latest:
            raise bad(f"ending_at: must be after starting_at, by {DAYS} days at most")
        return start - start % HOUR, end - end % HOUR

    def _sessions(self, query: Query) -> Iterator[Session]:
        """All that ever were, or those asked for; none when other products are asked for."""
        products = query.many("products", (PRODUCT, "messages_api"))
        if products and PRODUCT not in products:
            return iter(())
        everyone = {**self._world.gone, **self._world.sessions}
        wanted = query.many("session_ids", everyone.keys())
        return (session for session in everyone.values() if not wanted or session.id in wanted)


def _time(query: Query, name: str) -> int | None:
    text = query.text(name)
    try:
        return None if text is None else stamps.read(text)
    except ValueError as error:
        raise bad(f"{name}: {error}") from None


def _group(session: Session, cost_type: str, model: str, names: list[str]) -> Group:
    about: dict[str, str | None] = {
        "agent_id": session.agent["id"],
        "cost_type": cost_type,
        "environment_id": session.birth.environment["id"],
        "model": model or None,
        "product": PRODUCT,
        "session_id": session.id,
    }
    return tuple((name, about[name]) for name in names)


def _row(told: Group, parts: int, start: int, end: int) -> JSON:
    amount = f"{(Decimal(parts) / CENT).quantize(_DIGITS).normalize():f}"
    cost: dict[str, Any] = {"amount": amount, "list_amount": amount, "currency": "USD"}
    return {**_span(start, end), "group": dict(told), "cost": {**cost, "requests": None}}


def _span(start: int, end: int) -> JSON:
    return {"starting_at": stamps.written(start), "ending_at": stamps.written(end)}


def _usage(used: list[Tokens]) -> JSON:
    fresh, output, read, written, hour = (
        sum(getattr(one, name) for one in used)
        for name in ("fresh", "output", "cache_read", "cache_write", "cache_hour")
    )
    return {
        "uncached_input_tokens": fresh,
        "output_tokens": output,
        "cache_read_input_tokens": read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - hour,
            "ephemeral_1h_input_tokens": hour,
        },
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "total_tokens": fresh + output + read + written,
        "requests": len(used),
    }


def _reported(rows: list[JSON], following: str | None, fresh: int) -> Response:
    more = {"has_more": following is not None, "data_refreshed_at": stamps.written(fresh)}
    return answer({"data": rows, "next_page": following, **more})
