"""GET /v1/costs: what the tenant paid for, by user, agent, model or day."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, Any

from fastapi import Query
from msgspec import Struct
from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.auth import caller_of
from services.gateway.http.problems import as_json
from services.gateway.ports import CostArchive
from shared.costs import CostRow, Wanted, dimensions
from shared.errors import Rejected


def _day(value: Any) -> Any:
    """Only a day as the document writes it; a number would be taken for seconds since the epoch."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) is None:
        raise ValueError("must be a day, YYYY-MM-DD")
    return value


By = Annotated[
    str, Query(description="Comma-separated, what to tell apart: tenant, user, agent, model, day")
]
Since = Annotated[date | None, BeforeValidator(_day), Query(description="The first day (UTC)")]
Until = Annotated[
    date | None, BeforeValidator(_day), Query(description="The day after the last one (UTC)")
]


class Costs(Struct, frozen=True, kw_only=True):
    """What was paid for, the dearest first (by day: the days in order), at most 10,000 rows."""

    data: list[CostRow]


def cost_reader(archive: CostArchive) -> Callable[..., Awaitable[Response]]:
    """The endpoint GET /v1/costs."""

    async def get_costs(
        request: Request, by: By = "day", since: Since = None, until: Until = None
    ) -> Response:
        """Raises Rejected (`invalid_request`) or Transient (`archive_unavailable`)."""
        try:
            names = dimensions(by)
        except ValueError as error:
            raise Rejected("invalid_request", str(error), field="by") from error
        tenant = caller_of(request.scope).tenant_id
        wanted = Wanted(by=names, tenant=tenant, since=since, until=until)
        return as_json(Costs(data=list(await archive.costs(wanted))))

    return get_costs
