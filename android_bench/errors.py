"""The error classes of the measuring package; their messages are meant for the user."""

from __future__ import annotations

from mess_tf.core.errors import MessError


class BenchError(MessError):
    """A mistake or a condition of measuring that the user can act on, in one line.

    A model that cannot be measured is *not* an error but a ``Failure`` in its row.
    """


class ParseError(BenchError):
    """Output of a phone's command that is of another kind than expected."""
