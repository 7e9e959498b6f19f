"""What the phone's own commands are given and give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.phone_double.phones.phone import Phone
from tests.phone_double.phones.state import PhoneState, Uptime
from tests.phone_double.system.files import FileTree
from tests.phone_double.system.processes import Processes


@dataclass(frozen=True)
class Answer:
    """What a command prints, and its exit code."""

    out: str = ""
    code: int = 0
    err: str = ""


@dataclass(frozen=True)
class Become:
    """Go on as a program, with these variables more.

    Attributes:
        program: the host's path of it; by default what ``argv`` calls it.
    """

    argv: Sequence[str]
    program: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Script:
    """Go on as a shell that runs this text; ``words`` are $0, $1, ..."""

    text: str
    flags: Sequence[str]
    words: Sequence[str]


Reply = Answer | Become | Script


@dataclass
class Context:
    """All that commands answer from.

    Attributes:
        folder: the host's path of the folder in which the command was called.
        settings: what ``settings put`` has set.
        script: serves ``sh``, given the folder and the arguments.
    """

    phone: Phone
    state: PhoneState
    uptime: Uptime
    tree: FileTree
    processes: Processes
    settings: dict[str, str]
    script: Callable[[str, Sequence[str]], Reply]
    reboot: Callable[[], None]
    folder: str = "/"


# (context, the command's name, its arguments).
Command = Callable[[Context, str, Sequence[str]], Reply]
