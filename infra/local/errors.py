"""What can go wrong with the local stack in a way its user can act on?"""


class StackError(RuntimeError):
    """The stack cannot start or go on. The message says what, where and what to do about it."""
