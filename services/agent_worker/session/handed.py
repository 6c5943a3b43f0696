"""Inputs on their way from intake straight to the driver of their session."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.agent_worker.ports import NewInput


class Handed:
    """Inputs of one session that nobody has filed. `are_filed` is told once whether the inbox has them; False also
    where that is not known, since filing them again changes nothing."""

    def __init__(self, inputs: Sequence[NewInput]) -> None:
        self.inputs = inputs
        self.are_filed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
