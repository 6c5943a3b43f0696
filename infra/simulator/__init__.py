"""A Managed Agents provider on this machine: same HTTP, same event stream, no key, faults on request.

`reply_to` is public so that a test can work out what the simulated agent must have answered.
"""

from infra.simulator.reply import reply_to, text_of

__all__ = ["reply_to", "text_of"]
