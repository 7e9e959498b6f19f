"""How a run of the stand-in of the benchmark tool ends before its time."""


class Failed(Exception):
    """Exit code 1; the reason has been told."""


class Fatal(Exception):
    """The tool aborts with this message."""
