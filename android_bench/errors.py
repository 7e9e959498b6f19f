"""The error class of the measuring package; its message is meant for the user."""


class BenchError(Exception):
    """A mistake or a condition the user can act on, told in one line.

    The message names the thing, the value received, what is accepted and what to do.
    A model that cannot be measured is *not* an error but a ``Failure`` in its row.
    """

    exit_code = 1
