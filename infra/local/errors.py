"""The error of the local stack that its user can act on."""


class StackError(RuntimeError):
    """The stack cannot start or go on. The message says what, where and what to do about it."""
