"""The one error class whose message is meant for the user."""


class MessError(Exception):
    """A mistake or a condition the user can act on, reported in one line.

    The message names the thing, the value received, what is accepted and what to do.
    The command line prints it without a trace and exits with ``exit_code``.
    """

    exit_code = 1


class UsageError(MessError):
    """An option or argument that cannot be used as given; exit code 2."""

    exit_code = 2
