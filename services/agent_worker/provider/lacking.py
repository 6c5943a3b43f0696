"""Looks at a worker's start whether the provider's server has what the settings do not say it lacks, so that no
turn finds out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import anthropic
from anthropic import AsyncAnthropic

from services.agent_worker.governor.governor import in_lane
from services.agent_worker.governor.supply import BACKGROUND
from services.agent_worker.provider.failures import WIRE_ERRORS, verdict
from shared import logs
from shared.errors import WrongSetting
from shared.settings import Feature

SECONDS = 3.0
log = logs.get(__name__)


async def require_served(client: AsyncAnthropic, without: Collection[Feature]) -> None:
    """Raise WrongSetting where the server has no Files API and `without` does not say so. A server that is away, or
    does not answer in time, is taken to have it: work begins without it."""
    if "files" in without:
        return
    try:
        with in_lane(BACKGROUND):
            async with asyncio.timeout(SECONDS):
                await client.beta.files.list(limit=1)
    except anthropic.NotFoundError as error:
        if verdict(error.status_code, error.error_code, typed=error.type is not None) == "final":
            raise WrongSetting(
                "TURNSTILE_PROVIDER_WITHOUT: the server at ANTHROPIC_BASE_URL has no Files API (404 for "
                "GET /v1/files), as servers that somebody runs themselves have none: say "
                "`files,mcp_oauth,cloud` here and at the gateway, so that what needs them is refused when it "
                "is asked for"
            ) from error
        log.info("files_not_checked", error="http_404")
    except (*WIRE_ERRORS, TimeoutError) as error:
        log.info("files_not_checked", error=type(error).__name__)
