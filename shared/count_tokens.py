"""The tokens of a system prompt: as the provider counts them where it does, else by its length."""

from __future__ import annotations

from typing import Any

from shared.cache_minimum import Counted, estimated

COUNT_SECONDS = 10.0
# The provider counts no prompt without a message: this one costs as good as nothing.
MESSAGE = "."


async def count_tokens(
    client: Any, model: str, system: str, *, failures: tuple[type[Exception], ...]
) -> Counted:
    """The tokens of `system`, a handful for the message beside it included. `client` is the SDK's.

    An estimate where it raises one of `failures`: the provider does not count (a server of the same API without
    `/v1/messages`), is away, or takes longer than ten seconds.
    """
    if not system:
        return Counted(tokens=0, estimate=False)
    once = client.with_options(max_retries=0, timeout=COUNT_SECONDS)
    messages = [{"role": "user", "content": MESSAGE}]
    try:
        counted = await once.messages.count_tokens(model=model, system=system, messages=messages)
    except failures:
        return estimated(system)
    return Counted(tokens=counted.input_tokens, estimate=False)
