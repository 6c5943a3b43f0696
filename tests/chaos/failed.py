"""The error of a run that could not be judged."""


class ChaosFailed(RuntimeError):
    """The run could not be carried out; the message says at what."""
