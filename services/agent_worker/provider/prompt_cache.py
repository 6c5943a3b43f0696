"""Says at a worker's start when its agent's system prompt is too short for the provider's cache."""

from __future__ import annotations

from anthropic import AsyncAnthropic, omit

from services.agent_worker.governor.governor import in_lane
from services.agent_worker.governor.supply import BACKGROUND
from services.agent_worker.provider.failures import WIRE_ERRORS
from shared import logs
from shared.cache_minimum import Minimums
from shared.count_tokens import count_tokens
from shared.session.references import pinned

log = logs.get(__name__)


async def check_prompt(client: AsyncAnthropic, agent: str, minimums: Minimums, day: str) -> None:
    """Look at the agent and log what its system prompt is short of on `day`. Raises nothing for a provider that is
    away or an agent that is not there: turns will say so."""
    id, version = pinned(agent)
    try:
        with in_lane(BACKGROUND):
            found = await client.beta.agents.retrieve(
                id, version=omit if version is None else version
            )
            prompt = await count_tokens(
                client, found.model.id, found.system or "", failures=WIRE_ERRORS
            )
    except WIRE_ERRORS as error:
        log.info("prompt_not_checked", agent=agent, error=type(error).__name__)
        return
    if words := minimums.warning(found.model.id, prompt, day):
        log.warning(
            "prompt_below_cache_minimum",
            agent=found.id,
            agent_version=found.version,
            model=found.model.id,
            tokens=prompt.tokens,
            missing=minimums.shortfall(found.model.id, prompt.tokens, day),
            estimate=prompt.estimate,
            detail=words,
        )
