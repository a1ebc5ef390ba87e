"""The error that means "your input", as opposed to a failure inside."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what, where and what to do.

    The command line prints it as one line and exits with status 2.
    """
